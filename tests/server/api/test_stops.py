"""Special tokens named in `stop` end an answer by their id; their text is never part of it."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import httpx2 as httpx
import numpy as np
import orjson
import pytest

from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from deltaserve.server.decoding.protocols import DraftParams, Proposal
from deltaserve.server.upstream.base import Capabilities
from tests.support.app import END, START, RunningApp, ScriptedBlackBox, ScriptedDraft, running_app

CHAT = {"messages": [{"role": "user", "content": "hello"}]}
TEXT = {"prompt": "hello"}
ROUTES = pytest.mark.parametrize(("route", "prompt"), [("completions", TEXT), ("chat/completions", CHAT)])


@dataclass
class MarkedBox(ScriptedBlackBox):
    """Says `mark` at the fourth and ninth place of every answer, and is seen to end with `ends` there."""

    mark: int = START
    ends: int | None = None
    known: tuple[int, ...] = ()
    prompt: int = 0

    @property
    def capabilities(self) -> Capabilities:
        return replace(super().capabilities, end_ids=self.known)

    @asynccontextmanager
    async def draft(self, token_ids: Sequence[int], params: DraftParams) -> AsyncIterator["MarkedDraft"]:
        self.prompt = self.prompt or len(token_ids)
        yield MarkedDraft(self, list(token_ids), params)


class MarkedDraft(ScriptedDraft):
    def _proposal(self) -> Proposal:
        assert isinstance(self.box, MarkedBox)
        plain, mark = super()._proposal(), self.box.mark
        if (len(self.ids) - 1 - self.box.prompt) % 5 != 3:
            return plain
        self.ids[-1] = mark
        return Proposal(mark, np.array([mark, ord("x")]), np.log([0.9, 0.05]), end_id=self.box.ends)


@pytest.fixture(scope="module")
def marked(tokenizer: Tokenizer) -> Iterator[RunningApp]:
    with running_app(tokenizer, MarkedBox()) as running:
        yield running


def asked(app: RunningApp, route: str, **fields: Any) -> dict[str, Any]:
    body = {"model": "tiny", "max_tokens": 12, "temperature": 0, "return_token_ids": True, **fields}
    assert isinstance(app.box, MarkedBox)
    app.box.prompt = 0
    response = httpx.post(f"{app.url}/v1/{route}", json=body)
    assert response.status_code == 200, response.text
    if not fields.get("stream"):
        choices = {choice["index"]: choice for choice in response.json()["choices"]}
        return choices[0] if len(choices) == 1 else choices
    whole: dict[str, Any] = {"text": "", "token_ids": []}
    for line in response.text.splitlines():
        if line.startswith("data: {"):
            for choice in orjson.loads(line[6:])["choices"]:
                whole["text"] += choice.get("text") or (choice.get("delta") or {}).get("content") or ""
                whole["token_ids"] += choice.get("token_ids") or []
                whole |= {name: choice.get(name) for name in ("finish_reason", "stop_reason")}
    return whole


def text_of(choice: dict[str, Any]) -> str:
    return choice["text"] if "text" in choice else choice["message"]["content"]


def ended(choice: dict[str, Any]) -> tuple[int, str, Any]:
    return len(choice["token_ids"]), choice["finish_reason"], choice["stop_reason"]


@ROUTES
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("stop", ["<|im_start|>", ["zzz", "<|im_start|>"]], ids=str)
def test_a_special_token_in_stop_ends_the_answer(
    marked: RunningApp, route: str, prompt: dict[str, Any], stream: bool, stop: object
) -> None:
    choice = asked(marked, route, **prompt, stop=stop, stream=stream)
    assert ended(choice) == (4, "stop", "<|im_start|>")
    assert choice["token_ids"][-1] == START and len(text_of(choice)) == 3
    assert ended(asked(marked, route, **prompt, stream=stream)) == (12, "length", None)


def test_each_of_several_choices_ends_at_a_special_token_in_stop(marked: RunningApp) -> None:
    choices = asked(marked, "completions", **TEXT, stop="<|im_start|>", n=3)
    assert [ended(choice) for choice in choices.values()] == [(4, "stop", "<|im_start|>")] * 3


def test_a_special_token_in_stop_is_not_emitted_before_min_tokens(marked: RunningApp) -> None:
    choice = asked(marked, "completions", **TEXT, stop="<|im_start|>", min_tokens=6)
    assert START not in choice["token_ids"][:6]
    assert ended(choice) == (9, "stop", "<|im_start|>")


def test_ignoring_the_end_does_not_ignore_a_stop(tokenizer: Tokenizer) -> None:
    with running_app(tokenizer, MarkedBox(mark=END)) as app:
        plain = asked(app, "completions", **TEXT)
        named = asked(app, "completions", **TEXT, stop="<|im_end|>")
        ignored = asked(app, "completions", **TEXT, ignore_eos=True)
        both = asked(app, "completions", **TEXT, ignore_eos=True, stop="<|im_end|>")
    assert ended(plain) == (4, "stop", None)
    assert ended(ignored) == (12, "length", None)
    assert ended(named) == ended(both) == (4, "stop", "<|im_end|>")


@ROUTES
@pytest.mark.parametrize("stop", ["x<|im_end|>", "<|im_end|>\n", ["a", "<|im_start|><|im_end|>"]])
def test_a_string_with_a_special_token_in_it_is_refused(
    marked: RunningApp, route: str, prompt: dict[str, Any], stop: object
) -> None:
    response = httpx.post(f"{marked.url}/v1/{route}", json={"model": "tiny", **prompt, "stop": stop})
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (400, "stop")
    assert "special token" in error["message"]


def test_an_end_that_only_the_black_box_knows_ends_the_answer(tokenizer: Tokenizer) -> None:
    with running_app(tokenizer, MarkedBox(ends=START)) as app:
        ends = asked(app, "completions", **TEXT)
        ignored = asked(app, "completions", **TEXT, ignore_eos=True)
    assert ended(ends) == (4, "stop", None)
    assert ended(ignored) == (12, "length", None)


def test_an_end_token_found_by_the_probe_ends_answers_from_the_start(tokenizer: Tokenizer) -> None:
    with running_app(tokenizer, MarkedBox(known=(START,))) as app:
        assert ended(asked(app, "completions", **TEXT)) == (4, "stop", None)
        assert ended(asked(app, "chat/completions", **CHAT)) == (4, "stop", None)


def test_tokenizer_info_names_the_end_of_a_turn(marked: RunningApp) -> None:
    info = httpx.get(f"{marked.url}/tokenizer_info").json()
    assert (info["eos_token"], info["turn_end_token"]) == ("<|im_end|>", "<|im_end|>")
