"""Answers that contradict themselves: none of their tokens is served, whatever place the fault is at."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import orjson
import pytest

from deltaserve.errors import MalformedTopK
from deltaserve.server.decoding.protocols import DraftParams, Proposal
from deltaserve.server.upstream.listing.prompt_list import PromptList
from tests.server.upstream.dialects.test_openai import openai
from tests.server.upstream.dialects.test_vllm import chunk, drafted, vllm
from tests.support.replay import DONE, Reply, event, replaying

pytestmark = pytest.mark.anyio

Chunk = dict[str, Any]
K = 3
BEST = {5: -0.7, 6: -1.5, 7: -2.5}


def answer(length: int = 4) -> list[Chunk]:
    """As real vLLM: each chunk with its token, the last one with the reason; then the usage."""
    chunks = [chunk(5, BEST) for _ in range(length)]
    for at, each in enumerate(chunks):
        _choice(each)["text"] = "x"
        _logprobs(each)["text_offset"] = [at * len("token_id:5")]
    _choice(chunks[-1])["finish_reason"] = "length"
    return [*chunks, {"choices": [], "usage": {"completion_tokens": length}}]


def _choice(one: Chunk) -> dict[str, Any]:
    choice: dict[str, Any] = one["choices"][0]
    return choice


def _logprobs(one: Chunk) -> dict[str, Any]:
    logprobs: dict[str, Any] = _choice(one)["logprobs"]
    return logprobs


def _listing(drawn: int, top: dict[int, float]) -> Callable[[Chunk], None]:
    def change(one: Chunk) -> None:
        told = _logprobs(chunk(drawn, top))
        _logprobs(one).update(told | {"text_offset": _logprobs(one)["text_offset"]})

    return change


def _choosing(**fields: Any) -> Callable[[Chunk], None]:
    return lambda one: _choice(one).update(fields)


def _telling(**fields: Any) -> Callable[[Chunk], None]:
    return lambda one: _logprobs(one).update(fields)


def _twice(one: Chunk) -> None:
    one["choices"].append(deepcopy(_choice(one)))


CONTRADICTIONS: dict[str, Callable[[Chunk], None]] = {
    "k + 1, the drawn one among the best": _listing(6, BEST | {8: -3.0}),
    "k + 1, the drawn one the best": _listing(5, BEST | {8: -3.0}),
    "k + 1 without the drawn one": _listing(9, BEST | {8: -3.0}),
    "k + 2": _listing(9, BEST | {8: -3.0, 9: -4.0}),
    "k without the drawn one": _listing(9, BEST),
    "fewer than k": _listing(5, {5: -0.7, 6: -1.5}),
    "shuffled": _listing(7, {6: -1.5, 5: -0.7, 7: -2.5}),
    "more left out than the others can have": _listing(5, {5: -0.7, 6: -1.5, 7: -25.0}),
    "text and no list": _choosing(logprobs=None),
    "no text and no list": _choosing(logprobs=None, text=""),
    "ids and no list": _choosing(logprobs=None, text="", token_ids=[5]),
    "text and empty lists": _choosing(logprobs={"tokens": [], "top_logprobs": []}),
    "two choices": _twice,
    "another index": _choosing(index=1),
    "an end that is none": _choosing(finish_reason="stop"),
    "other token_ids": _choosing(token_ids=[6]),
    "two token_ids": _choosing(token_ids=[5, 5]),
    "its own logprob is not the list's": _telling(token_logprobs=[-0.9]),
    "its own logprob is no number": _telling(token_logprobs=["-0.7"]),
    "two own logprobs": _telling(token_logprobs=[-0.7, -0.7]),
    "no offset": _telling(text_offset=[]),
    "two tokens, one list": _telling(tokens=["token_id:5", "token_id:5"]),
    "one token, two lists": lambda one: _logprobs(one)["top_logprobs"].append(_logprobs(one)["top_logprobs"][0]),
    "an offset past what was sent": _telling(text_offset=[99]),
    "a bool": _telling(top_logprobs=[{"token_id:5": -0.7, "token_id:6": -1.5, "token_id:7": False}]),
    "one id spelled twice": _telling(top_logprobs=[{"token_id:5": -0.7, "token_id:6": -1.5, "token_id:06": -2.5}]),
    "an id of none": _telling(top_logprobs=[{"token_id:5": -0.7, "token_id:6": -1.5, "token_id:2048": -2.5}]),
    "an id that is no number": _telling(top_logprobs=[{"token_id:5": -0.7, "token_id:6": -1.5, "token_id:7.0": -2.5}]),
}


async def shown(*pieces: bytes, tokens: int = 4) -> list[Proposal]:
    async with replaying(Reply([*pieces, DONE])) as replay:
        return await drafted(vllm(replay, k=K), DraftParams(1.0, tokens))


async def test_the_answer_is_accepted_before_it_is_spoiled() -> None:
    proposals = await shown(*map(event, answer()))
    assert [proposal.token_id for proposal in proposals] == [5] * 4
    assert all(proposal.top_ids.tolist() == [5, 6, 7] for proposal in proposals)


@pytest.mark.parametrize("at", [0, 2])
@pytest.mark.parametrize("name", CONTRADICTIONS)
async def test_a_contradiction_is_refused_after_what_came_before_it(name: str, at: int) -> None:
    chunks, seen = answer(), []
    CONTRADICTIONS[name](chunks[at])
    async with replaying(Reply([*map(event, chunks), DONE])) as replay:
        box = vllm(replay, k=K)
        with pytest.raises(MalformedTopK):
            async with box.draft([1], DraftParams(1.0, 4)) as draft:
                async for proposal in draft:
                    seen.append(proposal.token_id)  # noqa: PERF401  (they are wanted although an error ends it)
        await box.aclose()
    # Of what is no contradiction by itself, but an end, the next chunk says that it was none.
    assert seen == [5] * (at + (name == "an end that is none"))


@pytest.mark.parametrize("at", [1, 2])
async def test_a_chunk_that_never_came_is_noticed_at_the_next_one(at: int) -> None:
    chunks = answer()
    del chunks[at]
    with pytest.raises(MalformedTopK, match="left out a token"):
        await shown(*map(event, chunks))


@pytest.mark.parametrize("count", [3, 0, -1, 2.0, "4", True])
async def test_usage_that_is_not_what_was_shown_is_refused(count: object) -> None:
    chunks = answer()
    chunks[-1]["usage"]["completion_tokens"] = count
    with pytest.raises(MalformedTopK, match=r"fewer tokens|does not count"):
        await shown(*map(event, chunks))


async def test_tokens_that_stay_hidden_are_refused_and_not_decided_by_the_pair() -> None:
    chunks = answer()
    chunks[-1]["usage"]["completion_tokens"] = 6
    chunks[-2]["choices"][0]["finish_reason"] = "stop"
    odd = [event(chunk(9, BEST)), DONE]
    async with replaying(Reply([*map(event, chunks), DONE]), Reply(odd)) as replay:
        with pytest.raises(MalformedTopK, match="does not list the token"):
            await drafted(vllm(replay, k=K), DraftParams(1.0, 9))


@pytest.mark.parametrize(
    ("written", "again"),
    [
        (b'"token_id:7":-2.5', b'"token_id:7":-2.5,"token_id:7":-2.5'),
        (b'"token_id:7":-2.5', b'"token_id:7":-2.5,"token_id:6":-1.5'),
        (b'"logprobs":{', b'"logprobs":null,"logprobs":{'),
        (b'"choices":[', b'"choices":[],"choices":['),
        (b'"tokens":[', b'"tokens":["token_id:6"],"tokens":['),
        (b'"finish_reason":', b'"finish_reason":"stop","finish_reason":'),
    ],
)
@pytest.mark.parametrize("text", ["x", ':"x":', "é"])
async def test_a_name_that_comes_twice_is_refused(written: bytes, again: bytes, text: str) -> None:
    chunks = answer()
    _choice(chunks[1])["text"] = text
    raw = list(map(orjson.dumps, chunks))
    raw[1] = raw[1].replace(written, again)
    with pytest.raises(MalformedTopK, match="twice in one object"):
        await shown(*map(event, raw))


@pytest.mark.parametrize("text", [":", '":"', '"a":1,"a":1', '{"x" :1}'])
async def test_text_that_looks_like_names_is_text(text: str) -> None:
    chunks = answer()
    _choice(chunks[1])["text"] = text
    assert len(await shown(*map(event, chunks))) == 4


async def test_text_may_lag_behind_the_lists_and_the_end_may_come_alone() -> None:
    chunks = answer()
    for each, text in zip(chunks, ["", "", "", "xxxx"], strict=False):
        _choice(each)["text"] = text
    _choice(chunks[3])["finish_reason"] = None
    end = {"choices": [{"index": 0, "text": "", "logprobs": None, "finish_reason": "length"}]}
    assert len(await shown(*map(event, [*chunks[:4], end, chunks[4]]))) == 4


@pytest.mark.parametrize("offsets", [[0, 0, 0, 0], [-1, -1, -1, -1], [0, 1, 2, 3], [0, 10, 20, 30]])
async def test_offsets_that_count_text_or_nothing_are_no_gaps(offsets: list[int]) -> None:
    chunks = answer()
    for each, offset in zip(chunks, offsets, strict=False):
        _logprobs(each)["text_offset"] = [offset]
    assert len(await shown(*map(event, chunks))) == 4


async def test_one_more_than_k_is_right_where_it_is_the_drawn_one_and_the_last() -> None:
    chunks = answer(1)
    _listing(9, {9: -3.0} | BEST)(chunks[0])
    (proposal,) = await shown(*map(event, chunks), tokens=1)
    assert proposal.token_id == 9 and proposal.top_ids.tolist() == [5, 6, 7]
    assert proposal.token_logprob == -3.0


def text_answer(drawn: str, table: dict[str, float], own: float | None) -> Chunk:
    logprobs = {"tokens": [drawn], "token_logprobs": [own], "top_logprobs": [table]}
    return {"choices": [{"index": 0, "text": drawn, "logprobs": logprobs, "finish_reason": "length"}]}


@pytest.mark.parametrize(
    ("drawn", "table", "own"),
    [
        ("b", {"a": -0.7, "b": -1.5, "c": -2.5}, -1.5),
        ("d", {"a": -0.7, "b": -1.5, "c": -2.5}, None),
        ("d", {"a": -0.7, "b": -1.5}, -1.0),
        ("b", {"a": -0.7, "b": -1.5}, -0.9),
        ("b", {"a": -0.7, "b": -1.5, "c": -2.5, "d": -3.0}, -1.5),
    ],
    ids=["among the best", "one too many", "left out", "two tellings", "two too many"],
)
async def test_the_text_dialect_is_held_to_the_same(drawn: str, table: dict[str, float], own: float | None) -> None:
    async with replaying(Reply([event(text_answer(drawn, table, own)), DONE])) as replay:
        box = openai(replay)
        with pytest.raises(MalformedTopK, match=r"one of them|listed 3|listed 4|two log-prob"):
            async with box.draft([97], DraftParams(1.0, 1)) as draft:
                await anext(aiter(draft))
        await box.aclose()


@pytest.mark.parametrize(
    ("first", "second"),
    [({"index": 0}, {"index": 0}), ({"index": 0}, {"index": -1}), ({"index": 0}, {"index": 2}), ({}, {"index": True})],
    ids=["one prompt twice", "below", "above", "no number"],
)
async def test_a_block_s_answers_are_one_for_each_prompt(first: dict[str, Any], second: dict[str, Any]) -> None:
    chunks = answer(2)[:2]
    for each, change in zip(chunks, (first, second), strict=True):
        _choice(each).update(change)
        _logprobs(each)["text_offset"] = [0]
    async with replaying(Reply([*map(event, chunks), DONE])) as replay:
        box = vllm(replay, k=K)
        with pytest.raises(MalformedTopK, match=r"not sent|more than the one"):
            await PromptList(box).block([1], [5], DraftParams(0.0, 1))
        await box.aclose()
