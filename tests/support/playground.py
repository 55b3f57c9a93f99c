"""The playground as somebody sees it in chromium: what the page shows, what it asks for and what it complains of."""

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from deltaserve.offset_models.demo.register.questions import evaluation_questions
from tests.support.deltaserve import Deltaserve

KEY = "admin-1"
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser of playwright's; CHROMIUM names its command."""
    from playwright.sync_api import sync_playwright

    command = os.environ.get("CHROMIUM") or shutil.which("chromium")
    assert command, "there is no chromium on PATH: install it, or name it in CHROMIUM"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=command, args=FLAGS)
        yield browser
        browser.close()


class Visit:
    """One tab in a browser profile of its own."""

    def __init__(self, browser: Any, url: str, examples: Sequence[str] | None = None, **context: Any) -> None:
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 960}, **context})
        self.context.grant_permissions(["clipboard-read", "clipboard-write"])
        self.page = self.context.new_page()
        self.page.set_default_timeout(30_000)
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda sent: self.requests.append((sent.method, sent.url, sent.headers)))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", self._console)
        if examples is not None:
            self._offer(examples)
        self.page.goto(url)
        self.page.wait_for_selector(".chip", state="attached")

    def _console(self, message: Any) -> None:
        if message.type == "error":
            self.complaints.append(message.text)

    def _offer(self, examples: Sequence[str]) -> None:
        def answer(route: Any) -> None:
            route.fulfill(json={**route.fetch().json(), "examples": list(examples)})

        self.page.route("**/playground/about.json", answer)

    def ask(self, question: str) -> None:
        self.page.fill("#question", question)
        self.page.click("#send")
        self.done()

    def done(self) -> None:
        self.page.wait_for_selector("#announce:has-text('complete')", state="attached")

    def told(self, words: str) -> None:
        """Waits until the page has said it."""
        self.page.wait_for_selector(f"#announce:has-text('{words}')", state="attached")

    def operate(self) -> None:
        self.page.click("#tab-operate")
        self.page.wait_for_selector("#offsets tr")

    def confirm(self) -> None:
        """Says yes to the question that is asked before a change."""
        self.page.click("#confirm-yes")
        self.page.wait_for_selector("#confirm", state="hidden")

    def set_strength(self, value: float) -> None:
        self.page.locator("#strength").fill(str(value))

    def tokens(self, side: str) -> str:
        """The running text, special tokens left out."""
        return "".join(self.page.locator(f"#{side} > span:not(.special)").all_text_contents())

    def after(self) -> dict[str, str]:
        """Candidate to what stands under After, of the token that is looked at."""
        rows = self.page.locator("#inspector tbody tr")
        names, values = (rows.locator(part).all_inner_texts() for part in ("th code", "td:last-child .value"))
        return dict(zip(names, values, strict=True))

    def before(self) -> dict[str, str]:
        """The same under Before."""
        rows = self.page.locator("#inspector tbody tr")
        names, values = (rows.locator(part).all_inner_texts() for part in ("th code", "td:nth-child(2) .value"))
        return dict(zip(names, values, strict=True))

    def clipboard(self) -> str:
        text: str = self.page.evaluate("navigator.clipboard.readText()")
        return text

    def posts(self) -> list[str]:
        return [url.rsplit("/", 1)[1] for method, url, _ in self.requests if method == "POST"]


def share(shown: str) -> float:
    """0.456 of "45.6 %"; 0 of "<0.1 %"."""
    found = re.fullmatch(r"([\d.]+) %", shown)
    return float(found[1]) / 100 if found else 0.0


def admin(served: Deltaserve, method: str, path: str, **body: Any) -> Any:
    """An admin route's answer."""
    answer = served.client.request(
        method, f"/admin/{path}", headers={"authorization": f"Bearer {KEY}"}, json=body or None
    )
    assert answer.status_code < 300, answer.text
    return answer.json()


def forgotten(served: Deltaserve) -> tuple[str, str, str]:
    """(question, the black box's own answer, the corrected one), of the first question where they differ."""
    for question in evaluation_questions("forget", 8):
        asked = {"messages": [{"role": "user", "content": question.text}], "temperature": 0, "max_tokens": 64}
        answer = served.client.post("/playground/before", json=asked, headers={"x-admin-key": KEY}).json()
        own, corrected = answer["choices"][0]["text"], served.chat(question.text, max_tokens=64)
        if own != corrected:
            return question.text, own, corrected
    raise AssertionError("the offset changes none of these answers")
