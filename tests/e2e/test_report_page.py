"""The report in a real browser: it asks nobody for anything, complains of nothing, and fits a printed page."""

from pathlib import Path
from typing import Any

import pytest

from deltaserve.client.evaluation.report.page import html
from deltaserve.client.evaluation.results import EvaluationResult
from tests.support.evaluations import evaluation

pytestmark = pytest.mark.browser

SHOTS = Path("build/report-page")
PAPER = 794  # CSS pixels across an A4 page


@pytest.mark.parametrize("width", [1100, PAPER, 390])
def test_the_page_stands_alone_and_nothing_sticks_out(browser: Any, tmp_path: Path, width: int) -> None:
    file = tmp_path / "report.html"
    file.write_text(html(EvaluationResult.model_validate(evaluation()), None, "What was forgotten"), "utf-8")
    page = browser.new_page(viewport={"width": width, "height": 900})
    asked: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.goto(file.as_uri())
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"{width}.png", full_page=True)
    assert asked == [file.as_uri()]
    assert not complaints
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("svg").count() == 3
    page.emulate_media(media="print")
    assert page.locator("h1").is_visible()
    page.close()
