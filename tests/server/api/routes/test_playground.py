"""GET /playground: the page and what it may load."""

import re
import tomllib
from pathlib import Path
from posixpath import dirname, normpath
from typing import Any

import httpx2 as httpx
import pytest

from tests.support.app import running_app

ROOT = Path(__file__).parents[4]
FOLDER = ROOT / "server" / "playground"
BELOW = sorted(f"/{file.relative_to(FOLDER).as_posix()}" for file in FOLDER.rglob("*.*") if file.name != "index.html")
FILES = ["", *BELOW]


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
    files = ["", "/app.js", "/style/base.css"]
    kinds = {file: httpx.get(f"{app.url}/playground{file}").headers["content-type"] for file in files}
    assert kinds[""].startswith("text/html")
    assert kinds["/app.js"].startswith("text/javascript")
    assert kinds["/style/base.css"].startswith("text/css")


def test_the_page_names_only_files_that_are_there_and_nothing_elsewhere(app: Any) -> None:
    page = httpx.get(f"{app.url}/playground").text
    named = re.findall(r'(?:src|href)="([^"]+)"', page)
    for file in FILES[1:]:
        if file.endswith(".js"):
            imported = re.findall(r'from "([^"]+)"', _get(app, file))
            assert all(name.startswith(("./", "../")) for name in imported), file
            named += [normpath(f"playground{dirname(file)}/{name}") for name in imported]
    for name in set(named):
        assert not re.match(r"[a-z]+:|/", name), name
        assert httpx.get(f"{app.url}/{name}").status_code == 200, name
    assert {f"playground{file}" for file in BELOW} == set(named), "a file that nothing loads"
    assert "style=" not in page and "onclick" not in page and page.count("<script") == 1


def test_text_enters_the_page_as_text_only(app: Any) -> None:
    scripts = "".join(_get(app, file) for file in FILES if file.endswith(".js"))
    for forbidden in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "localStorage",
        "indexedDB",
        "cookie",
    ):
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
            "admin_routes": True,
            "examples": ["One?", "Two, or three?"],
        }
        assert "k-1" not in answer.text and "k-2" not in answer.text


@pytest.mark.parametrize("settings", [{"admin_key": "k", "admin_port": 0}, {}])
def test_the_page_learns_that_the_admin_routes_are_not_here(tokenizer: Any, settings: dict[str, Any]) -> None:
    with running_app(tokenizer, **settings) as app:
        assert httpx.get(f"{app.url}/playground/about.json").json()["admin_routes"] is False


@pytest.mark.parametrize("settings", [{}, {"api_keys": "k-1"}])
def test_the_address_itself_leads_to_the_page(tokenizer: Any, settings: dict[str, Any]) -> None:
    with running_app(tokenizer, **settings) as app:
        for method in ("GET", "HEAD"):
            answer = httpx.request(method, f"{app.url}/")
            assert (answer.status_code, answer.headers["location"]) == (307, "/playground")
        assert "deltaserve playground" in httpx.get(app.url, follow_redirects=True).text
        assert httpx.post(f"{app.url}/").status_code == 405


@pytest.mark.parametrize("settings", [{}, {"api_keys": "k-1"}])
def test_switched_off_the_address_itself_is_an_unknown_path(tokenizer: Any, settings: dict[str, Any]) -> None:
    with running_app(tokenizer, playground=False, **settings) as app:
        answer = httpx.get(f"{app.url}/")
        assert answer.status_code == 404 and set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_every_file_of_the_page_goes_into_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packed = project["tool"]["setuptools"]["package-data"]["deltaserve.server"]
    folder = FOLDER.parent
    files = {file for pattern in packed for file in folder.glob(pattern) if file.is_file()}
    assert files >= {file for file in FOLDER.rglob("*") if file.is_file()}


def test_switched_off_there_is_nothing(tokenizer: Any) -> None:
    with running_app(tokenizer, playground=False, admin_key="k") as app:
        for path in (*(f"/playground{file}" for file in FILES), "/playground/about.json"):
            assert httpx.get(app.url + path).status_code == 404
        asked = {"prompt": "a", "max_tokens": 1}
        assert httpx.post(f"{app.url}/playground/before", json=asked, headers={"x-admin-key": "k"}).status_code == 404


def _get(app: Any, file: str) -> str:
    text: str = httpx.get(f"{app.url}/playground{file}").text
    return text
