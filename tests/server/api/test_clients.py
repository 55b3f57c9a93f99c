"""Requests as real clients sent them (tests/fixtures/clients), played back against the server."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from tests.support.app import RunningApp, ScriptedBlackBox, running_app

FIXTURES = Path(__file__).parents[2] / "fixtures" / "clients"


@pytest.fixture(scope="module")
def app(tokenizer: Tokenizer) -> Iterator[RunningApp]:
    with running_app(tokenizer, ScriptedBlackBox(max_context=120)) as running:
        yield running


def recorded(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (FIXTURES / name).read_text("utf-8").splitlines()]


def frames(response: httpx.Response) -> list[Any]:
    assert response.headers["content-type"].startswith("text/event-stream")
    parts = response.text.split("\n\n")
    assert parts[-2:] == ["data: [DONE]", ""]
    return [json.loads(part.removeprefix("data: ")) for part in parts[:-2]]


@pytest.mark.parametrize("entry", recorded("openai_client_requests.jsonl"), ids=lambda e: e["body"]["model"])
def test_openai_python(app: RunningApp, entry: dict[str, Any]) -> None:
    headers = {name: value for name, value in entry["hdr"].items() if name not in ("Host", "Content-Length")}
    body = {**entry["body"], "model": "tiny"}
    response = httpx.post(app.url + entry["path"], json=body, headers=headers, timeout=10)
    if not body.get("messages", True):
        assert response.status_code == 400
        assert response.json()["error"]["param"] == "messages"
        return
    assert response.status_code == 200
    assert response.headers["x-request-id"]
    if body.get("stream"):
        chunks = frames(response)
        assert all("choices" in chunk for chunk in chunks)
        assert ("usage" in chunks[-1]) == ("stream_options" in body)


@pytest.mark.parametrize("entry", recorded("guidellm_requests.jsonl")[:8], ids=lambda e: f"{e['m']} {e['p']}")
def test_guidellm(app: RunningApp, entry: dict[str, Any]) -> None:
    if entry["m"] == "GET":
        assert httpx.get(app.url + entry["p"]).status_code == 200
        return
    body = {**json.loads(entry["b"]), "model": "tiny"}
    chunks = frames(httpx.post(app.url + entry["p"], json=body, timeout=10))
    assert chunks[-1]["usage"]["completion_tokens"] == 32
    running = [chunk["usage"]["completion_tokens"] for chunk in chunks]
    assert running == sorted(running)
    assert running[0] < 32


@pytest.mark.parametrize("entry", recorded("lmeval_requests.jsonl"), ids=lambda e: e.get("POST") or e.get("GET"))
def test_lm_eval(app: RunningApp, entry: dict[str, Any]) -> None:
    if "GET" in entry:
        info = httpx.get(app.url + entry["GET"]).json()
        assert info["eos_token"] == "<|im_end|>"
        assert "<|im_start|>" in info["chat_template"]
        return
    body = {**entry["body"], **({"model": "tiny"} if "model" in entry["body"] else {})}
    response = httpx.post(app.url + entry["POST"], json=body, timeout=10)
    if entry["POST"] == "/tokenize":
        assert response.json()["tokens"] == list(body["prompt"].encode())
        assert response.json()["count"] == len(body["prompt"])
    elif body.get("echo"):  # scoring
        (choice,) = response.json()["choices"]
        scored = choice["logprobs"]["token_logprobs"]
        assert len(scored) == len(body["prompt"][0]) + 1
        assert scored[0] is None
        assert all(
            logprob <= max(top.values())
            for logprob, top in zip(scored, choice["logprobs"]["top_logprobs"], strict=True)
            if logprob is not None
        )
    else:
        assert response.status_code == 200
