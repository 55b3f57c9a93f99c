"""The page in a real browser, before the demo's black box and offset. CHROMIUM names the browser's command."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from offset_models.demo.questions import evaluation_questions
from tests.support.blackbox import blackbox
from tests.support.deltaserve import Deltaserve, deltaserve

pytestmark = pytest.mark.browser

KEY = "admin-1"
MARKUP = "<b>What</b> is <img src=x onerror=alert(1)>?"
SHOTS = Path("build/playground")


@pytest.fixture(scope="module")
def served(weights: Path, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deltaserve]:
    questions = [*evaluation_questions("forget", 4), *evaluation_questions("retain", 2)]
    settings = {
        "base": weights / "base",
        "admin_key": KEY,
        "state_folder": tmp_path_factory.mktemp("state"),
        "playground_examples": "\n".join([*(question.text for question in questions), MARKUP]),
    }
    with blackbox(weights / "blackbox") as box, deltaserve(box.url, checkpoint, **settings) as server:
        yield server


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    command = os.environ.get("CHROMIUM") or shutil.which("chromium")
    assert command, "there is no chromium on PATH: install it, or name it in CHROMIUM"
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=command, args=["--no-sandbox"])
        yield chromium
        chromium.close()


class Visit:
    """One page with what it asked for and what it complained of."""

    def __init__(self, browser: Any, url: str, scheme: str = "light") -> None:
        self.page = browser.new_page(viewport={"width": 1280, "height": 960}, color_scheme=scheme)
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda sent: self.requests.append((sent.method, sent.url, sent.headers)))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", self._console)
        self.page.goto(url)
        self.page.wait_for_selector(".chip")

    def _console(self, message: Any) -> None:
        if message.type == "error":
            self.complaints.append(message.text)

    def ask(self, question: str) -> None:
        self.page.fill("#question", question)
        self.page.click("#send")
        self.done()

    def done(self) -> None:
        self.page.wait_for_selector("#announce:has-text('complete')", state="attached")

    def tokens(self, side: str) -> str:
        """The running text, special tokens left out."""
        return "".join(self.page.locator(f"#{side} > span:not(.special)").all_text_contents())

    def posts(self) -> list[str]:
        return [url.rsplit("/", 1)[1] for method, url, _ in self.requests if method == "POST"]


@pytest.fixture
def visit(browser: Any, served: Deltaserve) -> Iterator[Any]:
    visits: list[Visit] = []

    def open_page(fragment: str = f"#admin_key={KEY}", scheme: str = "light") -> Visit:
        visits.append(Visit(browser, f"{served.url}/playground{fragment}", scheme))
        return visits[-1]

    yield open_page
    for one in visits:
        one.page.close()


def forgotten(served: Deltaserve) -> tuple[str, str, str]:
    """(question, the black box's own answer, the corrected one), of the first question where they differ."""
    for question in evaluation_questions("forget", 8):
        asked = {"messages": [{"role": "user", "content": question.text}], "temperature": 0, "max_tokens": 64}
        answer = served.client.post("/playground/before", json=asked, headers={"x-admin-key": KEY}).json()
        own, corrected = answer["choices"][0]["text"], served.chat(question.text, max_tokens=64)
        if own != corrected:
            return question.text, own, corrected
    raise AssertionError("the offset changes none of these answers")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_answers_stand_side_by_side_and_each_token_can_be_looked_into(
    visit: Any, served: Deltaserve, scheme: str
) -> None:
    question, own, corrected = forgotten(served)
    opened = visit(scheme=scheme)
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
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"{scheme}.png", full_page=True)
    assert opened.complaints == []


def test_the_key_of_the_address_goes_nowhere_but_into_the_header(visit: Any, served: Deltaserve) -> None:
    opened = visit()
    assert opened.page.url == f"{served.url}/playground"
    opened.ask("Who are you?")
    assert sorted(opened.posts()) == ["before", "completions"]
    assert not any(KEY in url for _, url, _ in opened.requests)
    assert {url for _, url, headers in opened.requests if headers.get("x-admin-key") == KEY}
    assert all(url.startswith(served.url) for _, url, _ in opened.requests)
    assert opened.page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])") == (
        '[{},{},""]'
    )


def test_without_the_admin_key_only_the_corrected_answer_is_asked_for(visit: Any, served: Deltaserve) -> None:
    question, _, corrected = forgotten(served)
    opened = visit("")
    opened.ask(question)
    assert opened.posts() == ["completions"]
    assert opened.tokens("after") == corrected
    assert "admin key" in opened.page.inner_text("#before")
    assert opened.page.locator("[role=option]").count() == 0 and opened.page.locator("#inspector").is_hidden()


def test_a_wrong_key_is_a_sentence_on_both_sides(visit: Any) -> None:
    opened = visit("#admin_key=wrong")
    opened.ask("Who are you?")
    problems = opened.page.locator(".problem").all_inner_texts()
    assert len(problems) == 2 and all("not the right one" in said for said in problems)


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


def test_markup_in_what_the_server_says_stays_text(visit: Any) -> None:
    opened = visit()
    chip = opened.page.locator(".chip").last
    assert chip.text_content() == MARKUP and opened.page.locator(".chip b, .chip img").count() == 0
    chip.click()
    opened.done()
    assert opened.page.locator("#after img, #inspector img").count() == 0 and opened.complaints == []


def test_an_answer_can_be_stopped(visit: Any) -> None:
    opened = visit()
    page = opened.page
    page.select_option("#mode", "completion")
    page.fill("#max-tokens", "512")
    page.fill("#temperature", "2")
    page.fill("#question", "The")
    page.click("#send")
    page.wait_for_selector("#after .token", state="attached")
    page.click("#stop")
    opened.done()
    assert "Stopped." in page.inner_text("#after") and page.locator("#send").is_visible()
