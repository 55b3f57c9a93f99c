"""Copied, saved, opened, drawn: what leaves the page in a real browser, and what comes back into it."""

import json
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.deltaserve import Deltaserve
from tests.support.playground import KEY, forgotten

pytestmark = pytest.mark.browser

TRICKY = """Who's "there"?\n$HOME `id` \\n é 東京 {{x}} %s"""


@pytest.fixture
def exchange(visit: Any, served: Deltaserve) -> Any:
    """The page with a question answered on both sides."""
    opened = visit()
    opened.page.wait_for_selector("#identity:has-text('strength')")
    opened.ask(forgotten(served)[0])
    return opened


def saved(opened: Any, button: str, folder: Path) -> Path:
    with opened.page.expect_download() as download:
        opened.page.click(button)
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    return path


def run(*command: str, **env: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env={**os.environ, **env})
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("mode", ["question", "text"])
def test_the_copied_lines_run_and_get_the_same_answer(visit: Any, served: Deltaserve, mode: str) -> None:
    opened = visit()
    page = opened.page
    page.check(f"#mode-{mode}", force=True)
    if mode == "question":
        page.click("#system-box summary")
        page.fill("#system", "It's a test.")
    page.fill("#seed", "7")
    page.locator("#max-tokens").fill("16")
    opened.ask(TRICKY)
    answer = opened.tokens("after")
    page.click("#copy-curl")
    opened.told("Copied as curl")
    choice = json.loads(run("bash", "-c", opened.clipboard()))["choices"][0]
    assert (choice["message"]["content"] if mode == "question" else choice["text"]) == answer
    assert KEY not in opened.clipboard()
    page.click("#copy-python")
    opened.told("Copied as Python")
    assert run(sys.executable, "-c", opened.clipboard(), PYTHONIOENCODING="utf-8") == f"{answer}\n"
    assert KEY not in opened.clipboard() and served.url in opened.clipboard()


def test_where_a_key_is_needed_the_copied_lines_name_its_variable_and_not_the_key(visit: Any) -> None:
    opened = visit("#api_key=user-1")
    opened.page.route(
        "**/playground/about.json", lambda route: route.fulfill(json={**route.fetch().json(), "needs_api_key": True})
    )
    opened.page.reload()
    opened.ask("Who are you?")
    for button in ("#copy-curl", "#copy-python"):
        opened.page.click(button)
        opened.told("curl" if "curl" in button else "Python")
        assert "DELTASERVE_API_KEY" in opened.clipboard() and "user-1" not in opened.clipboard()


def test_a_saved_answer_opens_again_as_it_was_and_nothing_is_asked(exchange: Any, visit: Any, tmp_path: Path) -> None:
    path = saved(exchange, "#save", tmp_path)
    written = path.read_text()
    assert path.suffix == ".json" and KEY not in written and "127.0.0.1" not in written
    opened = visit("")
    opened.page.set_input_files("#file", path)
    opened.told("is open")
    for side in ("before", "after"):
        assert opened.tokens(side) == exchange.tokens(side) != ""
        figures = f"#{side}-figures"
        assert opened.page.inner_text(figures) == exchange.page.inner_text(figures)
    assert opened.after() == exchange.after()
    assert "opened from a file" in opened.page.inner_text("#asked")
    assert opened.page.inner_text("#asked-question") == exchange.page.inner_text("#asked-question")
    opened.set_strength(0)
    assert opened.after() == opened.before()
    assert opened.posts() == [] and opened.complaints == []
    assert json.loads(saved(opened, "#save", tmp_path / "again").read_text()) == json.loads(written)


DAMAGE = {
    "not JSON": lambda text: text[:-2],
    "another's": lambda text: text.replace("deltaserve playground", "something else"),
    "of a later version": lambda text: text.replace('"version": 1', '"version": 2'),
    "without an answer": lambda text: json.dumps({**json.loads(text), "after": None}),
    "with bytes that are none": lambda text: text.replace('"bytes": [', '"bytes": [999, ', 1),
    "with a number for a text": lambda text: json.dumps({**json.loads(text), "fingerprint": 7}),
    "with another route": lambda text: text.replace("v1/chat/completions", "admin/offsets"),
    "a list": lambda text: f"[{text}]",
}


def test_a_file_that_is_not_as_saved_is_refused_and_the_page_stays(exchange: Any, tmp_path: Path) -> None:
    good = saved(exchange, "#save", tmp_path).read_text()
    for name, damage in DAMAGE.items():
        (tmp_path / "bad.json").write_text(damage(good))
        exchange.page.evaluate("document.getElementById('announce').textContent = ''")
        exchange.page.set_input_files("#file", tmp_path / "bad.json")
        exchange.told("This file")
        assert exchange.tokens("after") and exchange.page.locator("#asked-how").inner_text().count("file") == 0, name
    assert exchange.complaints == []


def test_markup_in_a_file_stays_text(exchange: Any, visit: Any, tmp_path: Path) -> None:
    document = json.loads(saved(exchange, "#save", tmp_path).read_text())
    evil = "<img src=x onerror=alert(1)>"
    document["asked"]["question"] = document["fingerprint"] = document["offset"]["name"] = evil
    for row in document["after"]["rows"]:
        row["text"], row["bytes"] = evil, list(evil.encode())
        row["candidates"][0]["text"] = evil
    (tmp_path / "evil.json").write_text(json.dumps(document))
    opened = visit("")
    opened.page.set_input_files("#file", tmp_path / "evil.json")
    opened.told("is open")
    assert opened.tokens("after").startswith(evil) and opened.page.inner_text("#asked-question") == evil
    assert opened.page.locator("main img").count() == 0 and opened.complaints == []


def test_the_picture_is_a_png_of_this_answer_in_the_page_s_colours(
    exchange: Any, visit: Any, served: Deltaserve, tmp_path: Path
) -> None:
    light = saved(exchange, "#save-picture", tmp_path).read_bytes()
    exchange.page.click("#theme")
    dark = saved(exchange, "#save-picture", tmp_path).read_bytes()
    exchange.ask("Who are you?")
    another = saved(exchange, "#save-picture", tmp_path).read_bytes()
    for png in (light, dark, another):
        assert png.startswith(b"\x89PNG\r\n\x1a\n")
        width, height = struct.unpack(">II", png[16:24])
        assert width == 2400 and 600 < height < 4000 and len(png) > 20_000
    assert len({light, dark, another}) == 3
    corner = "rgba(246,245,242,255)", "rgba(18,19,21,255)"
    assert tuple(_corner(exchange.page, png) for png in (light, dark)) == corner
    assert exchange.complaints == []


def _corner(page: Any, png: bytes) -> str:
    colour: str = page.evaluate(
        """async (bytes) => {
          const picture = await createImageBitmap(new Blob([new Uint8Array(bytes)], {type: "image/png"}));
          const drawing = new OffscreenCanvas(1, 1).getContext("2d");
          drawing.drawImage(picture, 0, 0);
          return `rgba(${drawing.getImageData(0, 0, 1, 1).data.join()})`;
        }""",
        list(png),
    )
    return colour


def test_a_long_answer_is_broken_between_words_and_never_leaves_its_column(visit: Any) -> None:
    lines = visit("").page.evaluate(
        """async () => {
          const { lines } = await import(new URL("playground/share/layout.js", location.href).href);
          const long = ["extraordinarily", "long", "-word-that-fits-nowhere", " end"];
          const pieces = ["Be", "fore", " the", "\\n", " ", ...long];
          return lines(pieces.map((text) => ({ text, mark: "" })), 12, (text) => text.length);
        }"""
    )
    assert ["".join(run["text"] for run in line) for line in lines] == [
        "Before the",
        "extraordinar",
        "ilylong",
        "-word-that-f",
        "its-nowhere",
        "end",
    ]
    assert all(run["x"] + run["width"] <= 12 for line in lines for run in line)
