"""GET /playground: the page and what it may load."""

import re
from typing import Any

import httpx2 as httpx
import pytest

from tests.support.app import running_app

FILES = ["", "/app.js", "/api.js", "/dom.js", "/flow.js", "/inspector.js", "/figures.js", "/style.css", "/icon.svg"]


@pytest.mark.parametrize("file", FILES)
def test_every_file_is_served_without_a_key_under_a_strict_policy(app: Any, file: str) -> None:
    answer = httpx.get(f"{app.url}/playground{file}")
    assert answer.status_code == 200
    policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"


def test_types_are_those_that_browsers_insist_on(app: Any) -> None:
    kinds = {file: httpx.get(f"{app.url}/playground{file}").headers["content-type"] for file in FILES}
    assert kinds[""].startswith("text/html")
    assert kinds["/app.js"].startswith("text/javascript")
    assert kinds["/style.css"].startswith("text/css")


def test_the_page_names_only_files_that_are_there_and_nothing_elsewhere(app: Any) -> None:
    page = httpx.get(f"{app.url}/playground").text
    named = re.findall(r'(?:src|href)="([^"]+)"', page)
    for file in FILES[1:]:
        if file.endswith(".js"):
            named += [f"playground/{name}" for name in re.findall(r'from "\./([^"]+)"', _get(app, file))]
    assert len(named) > 8
    for name in named:
        assert not re.match(r"[a-z]+:|/", name), name
        assert httpx.get(f"{app.url}/{name}").status_code == 200, name
    assert "style=" not in page and "onclick" not in page and page.count("<script") == 1


def test_text_enters_the_page_as_text_only(app: Any) -> None:
    scripts = "".join(_get(app, file) for file in FILES if file.endswith(".js"))
    for forbidden in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Storage", "cookie"):
        assert forbidden not in scripts


def test_only_the_files_of_the_page_are_there(app: Any) -> None:
    for path in ("/playground/nothing.js", "/playground/../settings.py", "/playground/%2e%2e/settings.py"):
        assert httpx.get(app.url + path).status_code == 404


def test_the_page_learns_what_it_needs_and_no_key(tokenizer: Any) -> None:
    with running_app(tokenizer, api_keys="k-1", admin_key="k-2", playground_examples="One?\n\n Two, or three? ") as app:
        answer = httpx.get(f"{app.url}/playground/about.json")
        assert answer.json() == {
            "needs_api_key": True,
            "has_admin_key": True,
            "examples": ["One?", "Two, or three?"],
        }
        assert "k-1" not in answer.text and "k-2" not in answer.text


def test_switched_off_there_is_nothing(tokenizer: Any) -> None:
    with running_app(tokenizer, playground=False, admin_key="k") as app:
        for path in (*(f"/playground{file}" for file in FILES), "/playground/about.json"):
            assert httpx.get(app.url + path).status_code == 404
        asked = {"prompt": "a", "max_tokens": 1}
        assert httpx.post(f"{app.url}/playground/before", json=asked, headers={"x-admin-key": "k"}).status_code == 404


def _get(app: Any, file: str) -> str:
    text: str = httpx.get(f"{app.url}/playground{file}").text
    return text
