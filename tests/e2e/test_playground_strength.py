"""The strength bar in a real browser: the preview beside what the server really answers, and the operator's trial."""

import json
from typing import Any

import pytest

from tests.support.deltaserve import Deltaserve, question
from tests.support.playground import KEY, admin, forgotten, share

pytestmark = pytest.mark.browser


@pytest.fixture
def other(served: Deltaserve) -> Any:
    """`other(strength)`: the model name of the served offset at that strength; gone at the end."""
    active, names = admin(served, "GET", "offsets")["active"], []

    def add(strength: float) -> str:
        names.append(f"other-{len(names)}")
        admin(served, "POST", "offsets", name=names[-1], sum=[{"name": active, "strength": strength}])
        return f"blackbox@{names[-1]}"

    yield add
    for name in names:
        admin(served, "DELETE", f"offsets/{name}")


def explained(served: Deltaserve, text: str, model: str) -> list[dict[str, Any]]:
    body = question(text, model=model, max_tokens=64, explain=True)
    answer = served.client.post("/v1/chat/completions", json=body, headers={"x-admin-key": KEY})
    assert answer.status_code == 200, answer.text
    rows: list[dict[str, Any]] = answer.json()["choices"][0]["explain"]
    return rows


def test_at_strength_0_the_preview_is_the_black_box_and_back_it_is_what_was_recorded(
    visit: Any, served: Deltaserve
) -> None:
    asked, _, _ = forgotten(served)
    opened = visit()
    opened.ask(asked)
    page = opened.page
    recorded, figures = opened.after(), page.inner_text("#after-figures")
    replaced = page.locator("#after .token.changed").count()
    opened.set_strength(0)
    assert opened.after() == opened.before() != recorded
    assert page.locator("#after .token.turned").count() == replaced >= 1
    assert page.locator("#after .token.changed").count() == 0
    said = page.inner_text("#strength-said")
    assert "preview along the recorded answer" in said and f"{replaced} token" in said
    assert "preview at strength 0" in page.inner_text("#inspector .position")
    page.click("#strength-back")
    assert opened.after() == recorded and page.inner_text("#after-figures") == figures
    assert page.locator("#after .token.turned").count() == 0
    assert sorted(opened.posts()) == ["before", "completions"]


@pytest.mark.parametrize("part", [0.3, 0.6, 1.4])
def test_the_preview_of_the_first_token_is_what_the_server_computes_at_that_strength(
    visit: Any, served: Deltaserve, other: Any, part: float
) -> None:
    """Of the first token: every other one follows a prefix that another strength need not have."""
    asked, _, _ = forgotten(served)
    own = next(row for row in admin(served, "GET", "offsets")["data"] if row["state"] == "active")["strength"]
    strength = round(own * part / 0.05) * 0.05
    first = explained(served, asked, other(strength))[0]
    opened = visit()
    opened.page.wait_for_selector("#identity:has-text('strength')")
    opened.ask(asked)
    opened.set_strength(round(strength, 2))
    opened.page.locator("#after .token").first.focus()
    shown = opened.after()
    real = {one["text"].replace(" ", "␣"): one["after"] for one in first["candidates"]}
    both = [name for name in shown if name in real and real[name] is not None]
    assert len(both) >= 5
    for name in both:
        assert share(shown[name]) == pytest.approx(2.718281828459045 ** real[name], abs=0.01), name
    likeliest = max(first["candidates"], key=lambda one: one["after"])["text"].replace(" ", "␣")
    assert next(iter(shown)) == likeliest


def test_regenerating_answers_really_at_that_strength_and_changes_nothing_for_others(
    visit: Any, served: Deltaserve, other: Any
) -> None:
    asked, own, corrected = forgotten(served)
    real = served.chat(asked, model=other(0), max_tokens=64)
    served_before = admin(served, "GET", "offsets")["data"]
    opened = visit()
    opened.page.wait_for_selector("#identity:has-text('strength')")
    opened.ask(asked)
    opened.set_strength(0)
    assert "trial version" in opened.page.inner_text("#regenerate-note")
    opened.page.click("#regenerate")
    opened.page.wait_for_selector("#fingerprint:has-text('a trial')")
    assert opened.tokens("after") == real == own != corrected
    assert opened.tokens("before") == own
    assert "strength 0.0" in opened.page.inner_text("#fingerprint")
    assert opened.page.locator("#strength-shown").inner_text() == "0.0"
    assert admin(served, "GET", "offsets")["data"] == served_before
    assert [card["id"] for card in served.client.get("/v1/models").json()["data"]] == ["blackbox", "blackbox@other-0"]
    log = admin(served, "GET", "audit?limit=2")["data"]
    assert [line["action"] for line in log] == ["unload", "sum"]
    assert len({line["version"] for line in log}) == 1 and log[0]["version"].startswith("trial-")
    assert served.chat(asked, max_tokens=64) == corrected
    assert opened.complaints == []


def test_a_trial_is_unloaded_when_its_answer_is_stopped_or_refused(visit: Any, served: Deltaserve) -> None:
    opened = visit()
    page = opened.page
    page.wait_for_selector("#identity:has-text('strength')")
    opened.ask("Who are you?")
    page.route("**/v1/chat/completions", lambda route: route.abort())
    opened.set_strength(0.5)
    page.click("#regenerate")
    page.wait_for_selector("#after .problem")
    assert "cannot be reached" in page.inner_text("#after")
    names = [row["name"] for row in admin(served, "GET", "offsets")["data"]]
    assert not [name for name in names if name.startswith("trial-")]


def test_only_the_operator_regenerates(visit: Any) -> None:
    opened = visit()
    page = opened.page
    opened.ask("Who are you?")
    page.click("#keys summary")
    page.click("#forget-keys")
    page.wait_for_selector("#regenerate:disabled")
    page.wait_for_selector("#regenerate-note:has-text('for the operator')")
    opened.set_strength(0.5)
    assert "preview" in page.inner_text("#strength-said") and page.is_disabled("#regenerate")


def test_the_slider_answers_the_keyboard_and_says_its_value(visit: Any) -> None:
    opened = visit()
    page = opened.page
    page.wait_for_selector("#identity:has-text('strength')")
    opened.ask("Who are you?")
    recorded = float(page.inner_text("#strength-shown"))
    page.focus("#strength")
    page.keyboard.press("ArrowLeft")
    assert float(page.inner_text("#strength-shown")) == pytest.approx(recorded - 0.05)
    assert page.get_attribute("#strength", "aria-valuetext") == f"strength {page.inner_text('#strength-shown')}"
    assert page.is_enabled("#strength-back")


def test_a_trial_is_unloaded_as_soon_as_its_answer_has_begun(visit: Any, served: Deltaserve) -> None:
    opened = visit()
    page = opened.page
    page.wait_for_selector("#identity:has-text('strength')")
    page.check("#mode-text", force=True)
    page.locator("#temperature").fill("2")
    page.locator("#max-tokens").fill("8")
    opened.ask("The")
    opened.set_strength(0.5)
    page.route("**/v1/completions", lambda route: route.continue_(post_data=_longer(route.request.post_data)))
    page.click("#regenerate")
    page.wait_for_selector("#after .token:nth-child(3)", state="attached")
    names = [row["name"] for row in admin(served, "GET", "offsets")["data"] if row["state"] != "draining"]
    assert page.locator("#stop").is_visible(), "the answer was over too soon to tell"
    assert not [name for name in names if name.startswith("trial-")]
    page.click("#stop")
    opened.done()


def _longer(body: str) -> str:
    return json.dumps({**json.loads(body), "max_tokens": 512, "ignore_eos": True})
