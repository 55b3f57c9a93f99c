"""Parameters of vLLM that say which tokens an answer may have, and where its text and its prompt are cut."""

import json
from typing import Any

import httpx2 as httpx
import pytest

from tests.support.app import RunningApp

GREEDY: dict[str, Any] = {"model": "tiny", "prompt": "Hi", "temperature": 0, "max_tokens": 12}  # "cdefgh é 漢"


def answer(app: RunningApp, **body: Any) -> Any:
    response = httpx.post(f"{app.url}/v1/completions", json={**GREEDY, **body}, timeout=10)
    assert response.status_code == 200, response.text
    return response.json()


def text(app: RunningApp, **body: Any) -> str:
    return str(answer(app, **body)["choices"][0]["text"])


def test_an_answer_has_only_tokens_that_are_allowed(app: RunningApp) -> None:
    assert set(text(app, allowed_token_ids=[*b"dfx"], temperature=1, max_tokens=40)) <= set("dfx")


def test_a_banned_word_does_not_come_and_its_beginning_may(app: RunningApp) -> None:
    assert text(app).startswith("cdefgh")
    banned = text(app, bad_words=["def"])
    assert banned.startswith("cde") and "def" not in banned


def test_words_that_ban_all_that_is_allowed_are_a_400(app: RunningApp) -> None:
    body = {**GREEDY, "allowed_token_ids": [*b"d"], "bad_words": ["d"]}
    response = httpx.post(f"{app.url}/v1/completions", json=body, timeout=10)
    assert (response.status_code, response.json()["error"]["param"]) == (400, "bad_words")


def test_a_stop_string_is_shown_where_it_is_asked_for(app: RunningApp) -> None:
    assert text(app, stop=["ef"]) == "cd"
    body = {**GREEDY, "stop": ["ef"], "include_stop_str_in_output": True}
    assert text(app, **body) == "cdef"
    lines = httpx.post(f"{app.url}/v1/completions", json={**body, "stream": True}, timeout=10).text.split("\n\n")[:-2]
    pieces = [json.loads(line.removeprefix("data: "))["choices"][0]["text"] for line in lines]
    assert "".join(pieces) == "cdef"


def test_a_stop_token_that_is_a_stop_string_is_shown_too(app: RunningApp) -> None:
    allowed = {"allowed_token_ids": [257], "stop": ["<|im_end|>"]}
    assert text(app, **allowed) == ""
    assert text(app, **allowed, include_stop_str_in_output=True) == "<|im_end|>"


@pytest.mark.parametrize("prompt", ["What is it? Hi", [*b"What is it? Hi"]])
def test_a_prompt_is_cut_to_its_last_tokens(app: RunningApp, prompt: Any) -> None:
    cut, short = answer(app, prompt=prompt, truncate_prompt_tokens=2, echo=True), answer(app, echo=True)
    assert cut["choices"] == short["choices"]
    assert cut["usage"]["prompt_tokens"] == 2
