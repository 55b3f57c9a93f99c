"""Pages of other origins: kept out by default, let in where the operator names them, never to the admin routes."""

from collections.abc import Iterator

import httpx2 as httpx
import pytest

from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from deltaserve.server.setting_sources import SettingsError
from deltaserve.server.settings import load_settings
from tests.support.app import RunningApp, running_app

ORIGIN = "https://app.example.org"
KEY, ADMIN_KEY = "secret", "admin"


@pytest.fixture(scope="module")
def opened(tokenizer: Tokenizer) -> Iterator[RunningApp]:
    with running_app(tokenizer, api_keys=KEY, admin_key=ADMIN_KEY, cors_origins=ORIGIN) as running:
        yield running


def preflight(app: RunningApp, path: str, origin: str = ORIGIN, method: str = "POST") -> httpx.Response:
    asked = {"origin": origin, "access-control-request-method": method}
    return httpx.options(
        f"{app.url}{path}",
        headers=asked | {"access-control-request-headers": "authorization,content-type,x-stainless-lang"},
    )


def test_a_named_origin_may_ask_and_read_answers_refusals_and_their_headers(opened: RunningApp) -> None:
    allowed = preflight(opened, "/v1/chat/completions")
    assert allowed.status_code == 200 and allowed.headers["access-control-allow-origin"] == ORIGIN
    assert "x-stainless-lang" in allowed.headers["access-control-allow-headers"]
    for key, status in ((KEY, 200), ("wrong", 401)):
        headers = {"origin": ORIGIN, "authorization": f"Bearer {key}"}
        answer = httpx.post(f"{opened.url}/v1/completions", json={"prompt": "x", "max_tokens": 2}, headers=headers)
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (status, ORIGIN)
        assert "x-request-id" in answer.headers["access-control-expose-headers"]
    assert "access-control-allow-credentials" not in allowed.headers


def test_other_origins_are_kept_out(opened: RunningApp) -> None:
    other = "https://elsewhere.example.org"
    assert "access-control-allow-origin" not in preflight(opened, "/v1/chat/completions", other).headers
    answer = httpx.get(f"{opened.url}/v1/models", headers={"origin": other, "authorization": f"Bearer {KEY}"})
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("path", ["/admin/offsets", "/admin/audit", "/playground", "/playground/before"])
def test_the_admin_routes_and_the_page_never_take_part(opened: RunningApp, path: str) -> None:
    assert "access-control-allow-origin" not in preflight(opened, path, method="GET").headers
    answer = httpx.get(f"{opened.url}{path}", headers={"origin": ORIGIN, "authorization": f"Bearer {ADMIN_KEY}"})
    assert "access-control-allow-origin" not in answer.headers


def test_by_default_no_other_origin_is_allowed(app: RunningApp) -> None:
    assert "access-control-allow-origin" not in preflight(app, "/v1/chat/completions").headers
    answer = httpx.get(f"{app.url}/v1/models", headers={"origin": ORIGIN})
    assert answer.status_code == 200 and "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    "origins", ["app.example.org", "https://a.example.org/", "https://a.example.org/x", "*,https://a.org"]
)
def test_what_is_no_origin_is_a_sentence(origins: str) -> None:
    with pytest.raises(SettingsError, match=r"cors_origins: .*(is no origin|leave the others out)"):
        load_settings(cors_origins=origins)


def test_several_origins_and_all_of_them_are_settings() -> None:
    assert load_settings(cors_origins="https://a.org, http://localhost:3000").cors_origins == (
        "https://a.org", "http://localhost:3000",
    )  # fmt: skip
    assert load_settings(cors_origins="*").cors_origins == ("*",)
