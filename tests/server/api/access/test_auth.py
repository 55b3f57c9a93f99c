"""Bearer keys."""

from collections.abc import Iterator
from typing import Any

import httpx2 as httpx
import openai
import pytest

from tests.support.app import RunningApp, running_app


@pytest.fixture(scope="module")
def guarded(tokenizer: Any) -> Iterator[RunningApp]:
    with running_app(tokenizer, api_keys="first, second") as app:
        yield app


@pytest.mark.parametrize("key", ["first", "second"])
def test_each_api_key_is_accepted(guarded: RunningApp, key: str) -> None:
    with openai.OpenAI(base_url=f"{guarded.url}/v1", api_key=key) as client:
        assert client.models.list().data[0].id == "tiny"


def test_another_key_is_an_authentication_error(guarded: RunningApp) -> None:
    with openai.OpenAI(base_url=f"{guarded.url}/v1", api_key="third", max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError) as caught:
            client.completions.create(model="tiny", prompt="a")
        assert caught.value.code == "invalid_api_key"
        assert isinstance(caught.value.body, dict)
        assert caught.value.response.headers["x-request-id"]


@pytest.mark.parametrize("header", [None, "", "first", "Basic first", "Bearer", "Bearer first second"])
@pytest.mark.parametrize(
    "path", ["/v1/models", "/tokenizer_info", "/v1/nothing", "/nothing", "/openapi.json", "/docs", "/redoc"]
)
def test_without_a_key_there_is_nothing_to_see(guarded: RunningApp, header: str | None, path: str) -> None:
    headers = {} if header is None else {"authorization": header}
    assert httpx.get(guarded.url + path, headers=headers).status_code == 401


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/health", "/version", "/metrics"])
def test_the_servers_own_state_needs_no_key(guarded: RunningApp, path: str) -> None:
    assert httpx.get(guarded.url + path).status_code == 200


def test_the_api_document_is_there_for_those_who_have_a_key(guarded: RunningApp) -> None:
    answer = httpx.get(f"{guarded.url}/openapi.json", headers={"authorization": "Bearer first"})
    assert "/v1/completions" in answer.json()["paths"]


@pytest.mark.parametrize("header", [b"Bearer \xed\xa0\x80", b"\xff\xfe", b"Bearer " + b"x" * 10_000, b"bearer\tfirst"])
def test_a_key_of_strange_bytes_is_a_wrong_one(guarded: RunningApp, header: bytes) -> None:
    answer = httpx.get(f"{guarded.url}/v1/models", headers=[(b"authorization", header)])
    assert answer.status_code == 401


def test_a_body_is_not_read_before_the_key_is_checked(guarded: RunningApp) -> None:
    assert httpx.post(f"{guarded.url}/v1/completions", content=b"x" * 5_000_000).status_code == 401
