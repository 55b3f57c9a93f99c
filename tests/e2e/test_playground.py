"""The page in a real browser, before the demo's black box and offset: asking, looking, reloading, on a phone."""

import os
from pathlib import Path
from typing import Any

import pytest

from tests.support.deltaserve import Deltaserve
from tests.support.playground import KEY, admin, forgotten

pytestmark = pytest.mark.browser

MARKUP = "<b>What</b> is <img src=x onerror=alert(1)>?"
PICTURES = Path(os.environ.get("PLAYGROUND_PICTURES", "build/playground"))  # `make pictures` writes docs/pictures
PHONE = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "is_mobile": True, "has_touch": True}
LARGEST_PICTURE = 200_000  # bytes: README shows them


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_answers_stand_side_by_side_and_each_token_can_be_looked_into(
    visit: Any, served: Deltaserve, scheme: str
) -> None:
    question, own, corrected = forgotten(served)
    opened = visit(color_scheme=scheme)
    opened.ask(question)
    page = opened.page
    assert (opened.tokens("before"), opened.tokens("after")) == (own, corrected)
    assert page.locator("#after .token.changed").count() >= 1
    assert page.locator("#before .token.gone").count() >= 1
    page.locator("#after .token.changed").last.hover()
    row = page.locator("#inspector tr.emitted")
    assert row.count() == 1 and "emitted" in row.inner_text()
    assert "black box" in page.locator("#inspector tbody").inner_text()
    figures = page.locator("#after-figures").inner_text()
    assert all(name in figures for name in ("Accepted", "Replaced", "Certified", "tok/s"))
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == (
        "rgb(246, 245, 242)" if scheme == "light" else "rgb(18, 19, 21)"
    )
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.mouse.move(0, 0)
    picture = PICTURES / f"playground-{scheme}.png"
    page.screenshot(path=picture, full_page=True)
    assert picture.stat().st_size < LARGEST_PICTURE
    assert opened.complaints == []


def test_the_key_of_the_address_goes_into_the_header_and_this_tab_alone(visit: Any, served: Deltaserve) -> None:
    opened = visit()
    assert opened.page.url == f"{served.url}/playground"
    opened.ask("Who are you?")
    assert sorted(opened.posts()) == ["before", "completions"]
    assert not any(KEY in url for _, url, _ in opened.requests)
    assert {url for _, url, headers in opened.requests if headers.get("x-admin-key") == KEY}
    assert all(url.startswith(served.url) for _, url, _ in opened.requests)
    kept = opened.page.evaluate("[{...localStorage}, document.cookie, sessionStorage['deltaserve.key.admin']]")
    assert kept == [{}, "", f'"{KEY}"']
    assert "this tab only" in opened.page.locator(".keys-box").text_content()
    other = opened.context.new_page()
    other.goto(f"{served.url}/playground")
    other.wait_for_selector(".chip")
    assert other.input_value("#admin-key") == ""


def test_key_and_question_survive_a_reload_until_they_are_forgotten(visit: Any) -> None:
    opened = visit()
    page = opened.page
    page.fill("#question", "Is this\nstill here?")
    page.check("#mode-conversation", force=True)
    page.reload()
    page.wait_for_selector(".chip")
    assert (page.input_value("#question"), page.input_value("#admin-key")) == ("Is this\nstill here?", KEY)
    assert page.is_checked("#mode-conversation") and page.inner_text("#keys-state") == "admin"
    page.click("#keys summary")
    page.click("#forget-keys")
    page.reload()
    page.wait_for_selector(".chip")
    assert page.input_value("#admin-key") == "" and page.inner_text("#keys-state") == "none"
    assert KEY not in page.evaluate("JSON.stringify({...sessionStorage})")


def test_without_the_admin_key_only_the_corrected_answer_is_asked_for(visit: Any, served: Deltaserve) -> None:
    question, _, corrected = forgotten(served)
    opened = visit("")
    opened.ask(question)
    assert opened.posts() == ["completions"]
    assert opened.tokens("after") == corrected
    page = opened.page
    assert "admin key" in page.inner_text("#before")
    assert page.locator("[role=option]").count() == 0
    assert page.locator("#inspector").is_hidden() and page.locator("#strength-bar").is_hidden()
    page.click("#tab-operate")
    assert "admin key" in page.inner_text("#operate-locked") and page.locator("#operating").is_hidden()
    assert not [url for _, url, _ in opened.requests if "/admin/" in url]


def test_a_wrong_key_is_a_sentence_on_both_sides(visit: Any) -> None:
    opened = visit("#admin_key=wrong")
    opened.ask("Who are you?")
    problems = opened.page.locator(".text .problem").all_inner_texts()
    assert len(problems) == 2 and all("not the right one" in said for said in problems)


def test_a_key_that_no_header_can_carry_is_a_sentence(visit: Any) -> None:
    opened = visit("")
    opened.page.click("#keys summary")
    opened.page.fill("#admin-key", "schlüssel")
    opened.page.keyboard.press("Escape")
    assert opened.page.locator(".keys-box").is_hidden()
    opened.ask("Who are you?")
    assert "paste it again" in opened.page.inner_text("#after") and opened.complaints == []


def test_beside_the_model_stands_the_offset_that_answers(visit: Any, served: Deltaserve) -> None:
    active = next(row for row in admin(served, "GET", "offsets")["data"] if row["state"] == "active")
    opened = visit()
    opened.page.wait_for_selector("#identity:has-text('strength')")
    shown = opened.page.inner_text("#identity")
    assert active["name"] in shown and active["digest"][:12] in shown and f"strength {active['strength']}" in shown
    assert opened.page.input_value("#model") == "blackbox"
    without = visit("")
    without.page.wait_for_selector("#identity b")
    shown = without.page.inner_text("#identity")
    assert active["name"] in shown and active["digest"][:12] in shown and "strength" not in shown


def test_tokens_can_be_walked_and_pinned_with_the_keyboard(visit: Any) -> None:
    opened = visit()
    page = opened.page
    opened.ask("Who are you?")
    page.locator("#after .token.chosen").focus()
    page.keyboard.press("Home")
    assert page.inner_text("#inspector .position") == "Token 1"
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#inspector .position") == "Token 2"
    page.keyboard.press("Enter")
    page.locator("#after .token").first.hover()
    assert page.inner_text("#inspector .position") == "Token 2"
    page.keyboard.press("Escape")
    page.locator("#after .token").last.hover()
    assert page.inner_text("#inspector .position") != "Token 2"


def test_the_ring_of_a_single_character_leaves_its_neighbours_as_they_were(visit: Any, served: Deltaserve) -> None:
    question, _, _ = forgotten(served)
    opened = visit()
    opened.ask(question)
    page = opened.page
    texts = page.locator("#after .token").all_text_contents()
    narrow = next(at for at, text in enumerate(texts) if len(text) == 1)
    beside = [at for at in (narrow - 1, narrow + 1) if 0 <= at < len(texts)]
    options = page.locator("#after .token")
    options.nth(next(at for at in range(len(texts)) if at not in (narrow, *beside))).focus()
    page.mouse.move(0, 0)
    alone = [_inside(page, options.nth(at)) for at in beside]
    unchosen = _inside(page, options.nth(narrow))
    options.nth(narrow).focus()
    page.keyboard.press("Enter")
    assert page.locator("#after.pinned .token.chosen").text_content() == texts[narrow]
    assert [_inside(page, options.nth(at)) for at in beside] == alone
    assert _inside(page, options.nth(narrow)) != unchosen


def _inside(page: Any, token: Any) -> bytes:
    """The pixels that are the token's alone: an edge between two of them may lie inside a pixel."""
    box = token.bounding_box()
    left, right = int(box["x"]) + 1, int(box["x"] + box["width"])
    clip = {"x": left, "y": int(box["y"]), "width": max(1, right - left), "height": int(box["height"])}
    pixels: bytes = page.screenshot(clip=clip)
    return pixels


def test_markup_in_what_the_server_says_stays_text(visit: Any) -> None:
    opened = visit(examples=[MARKUP])
    chip = opened.page.locator(".chip").last
    assert chip.text_content() == MARKUP and opened.page.locator(".chip b, .chip img").count() == 0
    chip.click()
    opened.done()
    assert opened.page.inner_text("#asked-question") == MARKUP and opened.page.locator("#asked img").count() == 0
    assert opened.page.locator("#after img, #inspector img").count() == 0 and opened.complaints == []


def test_enter_asks_and_shift_enter_starts_a_line(visit: Any) -> None:
    opened = visit("")
    page = opened.page
    page.focus("#question")
    page.keyboard.type("One")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("Two")
    assert page.input_value("#question") == "One\nTwo" and opened.posts() == []
    page.keyboard.press("Enter")
    opened.done()
    assert page.input_value("#question") == "One\nTwo" and opened.posts() == ["completions"]


def test_enter_that_ends_a_composition_of_letters_does_not_ask(visit: Any) -> None:
    opened = visit("")
    opened.page.fill("#question", "か")
    opened.page.evaluate(
        "document.getElementById('question').dispatchEvent("
        "new KeyboardEvent('keydown', {key: 'Enter', isComposing: true, bubbles: true, cancelable: true}))"
    )
    assert opened.posts() == [] and opened.page.locator("#send").is_visible()


def test_a_conversation_goes_on_with_its_system_prompt_and_both_sides_get_it(visit: Any) -> None:
    opened = visit()
    page = opened.page
    bodies: list[Any] = []
    page.on("request", lambda sent: bodies.append(sent.post_data_json) if sent.method == "POST" else None)
    page.check("#mode-conversation", force=True)
    page.click("#system-box summary")
    page.fill("#system", "You keep a register.")
    opened.ask("Who are you?")
    first = opened.tokens("after")
    assert page.input_value("#question") == ""
    page.reload()
    page.wait_for_selector("#turns li")
    opened.ask("And who am I?")
    second = opened.tokens("after")
    said = [
        {"role": "system", "content": "You keep a register."},
        {"role": "user", "content": "Who are you?"},
        {"role": "assistant", "content": first},
        {"role": "user", "content": "And who am I?"},
    ]
    assert [body["messages"] for body in bodies] == [[said[0], said[1]]] * 2 + [said] * 2
    shown = page.locator("#turns li span").all_text_contents()
    assert shown == ["Who are you?", first, "And who am I?", second]
    page.click("#start-over")
    assert page.locator("#turns li").count() == 0
    opened.ask("Who are you?")
    assert bodies[-1]["messages"] == said[:2]


def test_an_answer_can_be_stopped(visit: Any) -> None:
    opened = visit()
    page = opened.page
    page.check("#mode-text", force=True)
    page.locator("#max-tokens").fill("512")
    page.locator("#temperature").fill("2")
    page.fill("#question", "The")
    page.click("#send")
    page.wait_for_selector("#after .token", state="attached")
    page.click("#stop")
    opened.done()
    assert "Stopped." in page.inner_text("#after") and page.locator("#send").is_visible()


def test_on_a_phone_nothing_is_cut_off(visit: Any, served: Deltaserve) -> None:
    question, _, _ = forgotten(served)
    opened = visit(**PHONE)
    page = opened.page
    opened.ask(question)
    page.locator("#after .token").last.tap()
    for tab in ("ask", "operate"):
        page.click(f"#tab-{tab}")
        page.wait_for_selector("#after .token" if tab == "ask" else "#offsets tr")
        assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.click("#tab-ask")
    top = page.locator("#inspector tbody tr").first
    for part in ("th code", ".badge.box", ".badge.out"):
        assert _is_whole(top.locator(part)), part
    for control in ("#tab-operate", "#keys summary", "#theme", "#model", "#health", "#identity"):
        assert _is_whole(page.locator(control)), control
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=Path("build/playground") / "phone.png", full_page=True)


def _is_whole(part: Any) -> bool:
    """Whether it has its full width, inside the page and inside each box that cuts off what leaves it."""
    seen: bool = part.evaluate(
        """(part) => {
          const mine = part.getBoundingClientRect();
          if (!mine.width || part.scrollWidth > part.clientWidth + 1 && part.clientWidth) return false;
          for (let box = part.parentElement; box; box = box.parentElement) {
            const limit = box.getBoundingClientRect();
            const cuts = getComputedStyle(box).overflowX !== "visible" || box === document.documentElement;
            if (cuts && (mine.left < limit.left - 1 || mine.right > limit.right + 1)) return false;
          }
          return true;
        }"""
    )
    return seen


def test_what_can_be_used_has_a_name_and_the_tabs_answer_the_arrow_keys(visit: Any) -> None:
    opened = visit()
    page = opened.page
    opened.ask("Who are you?")
    page.focus("#tab-ask")
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("#offsets tr")
    assert page.evaluate("document.activeElement.id") == "tab-operate"
    assert page.get_attribute("#tab-operate", "aria-selected") == "true" and page.locator("#ask").is_hidden()
    nameless = page.evaluate(
        """[...document.querySelectorAll("button, input, select, textarea")].filter((one) => {
          const labels = [...(one.labels ?? [])].map((label) => label.textContent.trim());
          return !(one.textContent.trim() || one.ariaLabel || labels.some(Boolean));
        }).map((one) => one.outerHTML)"""
    )
    assert nameless == []


def test_nothing_blinks_for_those_who_asked_for_less_motion(visit: Any) -> None:
    names = {}
    for motion in ("reduce", "no-preference"):
        page = visit("", reduced_motion=motion).page
        page.evaluate("document.getElementById('after').classList.add('running')")
        names[motion] = page.evaluate("getComputedStyle(document.getElementById('after'), '::after').animationName")
    assert names == {"reduce": "none", "no-preference": "blink"}
