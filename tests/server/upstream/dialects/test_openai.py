"""The text dialect: token strings mapped back to ids, only where that is one to one."""

import math
from collections.abc import Sequence
from typing import Any

import pytest

from deltaserve.errors import MalformedTopK, UpstreamRefused
from deltaserve.server.decoding.protocols import DraftParams, Proposal
from deltaserve.server.upstream.base import Capabilities
from deltaserve.server.upstream.dialects.openai import OpenAI
from deltaserve.server.upstream.http.transport import Transport
from deltaserve.server.upstream.text.names import name_bytes
from tests.support.replay import DONE, Replay, Reply, event, replaying
from tests.support.table_tokenizer import TableTokenizer, byte_tokenizer

pytestmark = pytest.mark.anyio

HELLO, WORLD, LEAD, TWIN = 256, 257, 258, 259
TOKENIZER = byte_tokenizer([b"hello", b" world", b" \xf0\x9f", b"hello"])


def openai(replay: Replay, k: int = 2, ids_in: bool = True, tokenizer: TableTokenizer = TOKENIZER) -> OpenAI:
    capabilities = Capabilities(
        dialect="openai", server="hosted", model="m", k=k, max_k=5, vocab_size=None, max_context=None, ids_in=ids_in,
        ids_out=False, raw_logprobs=True, prompt_list=True, prompt_logprobs=False, prefix_cache=None,
    )  # fmt: skip
    return OpenAI(Transport(replay.url), tokenizer, capabilities)


async def drafted(
    box: OpenAI, prefix: Sequence[int] = (97, 98), temperature: float = 1.0, tokens: int = 1
) -> list[Proposal]:
    try:
        async with box.draft(prefix, DraftParams(temperature, tokens)) as draft:
            return [proposal async for proposal in draft]
    finally:
        await box.aclose()


def legacy(token: str, table: dict[str, float]) -> Reply:
    logprobs = {
        "tokens": [token],
        "token_logprobs": [table.get(token, -9.0)],
        "top_logprobs": [table],
        "text_offset": [0],
    }
    return _reply(logprobs)


def chat_shaped(token: dict[str, Any], listed: list[dict[str, Any]]) -> Reply:
    return _reply({"content": [token | {"top_logprobs": listed}]})


def _reply(logprobs: dict[str, Any]) -> Reply:
    choice = {"index": 0, "text": "x", "logprobs": logprobs, "finish_reason": "length"}
    return Reply([event({"choices": [choice], "obfuscation": "abc", "usage": None}), DONE])


async def test_an_end_that_is_not_shown_is_asked_for_again_hot_and_gives_up_after_some_tries() -> None:
    hidden = Reply([event({"choices": [{"index": 0, "logprobs": None, "finish_reason": "stop"}]}), DONE])
    async with replaying(hidden, hidden, legacy("a", {"a": -2.0, " world": -0.5})) as replay:
        box = openai(replay)
        (unknown,) = await drafted(box, temperature=0.0)
    assert unknown.token_id is None and unknown.top_ids.tolist() == [WORLD, 97]
    assert [body["temperature"] for body in replay.bodies()] == [0.0, 2.0, 2.0]
    async with replaying(hidden) as replay:
        (unknown,) = await drafted(openai(replay), temperature=0.0)
    assert not unknown.top_ids.size
    assert len(replay.requests) == 4


async def test_no_draft_says_how_it_was_drawn_because_ends_are_often_not_shown() -> None:
    async with replaying(legacy("a", {"a": -0.5, " world": -2.0})) as replay:
        box = openai(replay)
        async with box.draft([1], DraftParams(1.0, 1)) as draft:
            assert (await anext(aiter(draft))).token_id == 97
            assert draft.temperature is None
        await box.aclose()


@pytest.mark.parametrize("first", [0, 2, 40])
async def test_text_offsets_may_count_the_prompt_s_characters_too(first: int) -> None:
    pieces = [_chunk("a", first, None), _chunk("b", first + 1, "length")]
    async with replaying(Reply([*map(event, pieces), DONE])) as replay:
        assert [proposal.token_id for proposal in await drafted(openai(replay), tokens=2)] == [97, 98]


async def test_white_space_that_was_trimmed_from_an_answer_s_end_is_no_end_token() -> None:
    last = _chunk("\n", 0, "stop")
    last["choices"][0]["text"] = ""
    async with replaying(Reply([event(last), DONE])) as replay:
        box = openai(replay)
        (proposal,) = await drafted(box, tokens=2)
    assert (proposal.token_id, proposal.end_id, box.capabilities.end_ids) == (10, None, ())


async def test_a_text_offset_behind_a_gap_is_refused_wherever_offsets_begin() -> None:
    pieces = [_chunk("a", 2, None), _chunk("b", 9, "length")]
    async with replaying(Reply([*map(event, pieces), DONE])) as replay:
        with pytest.raises(MalformedTopK, match="left out a token"):
            await drafted(openai(replay), tokens=2)


def _chunk(token: str, offset: int, finish_reason: str | None) -> dict[str, Any]:
    logprobs = {
        "tokens": [token],
        "token_logprobs": [-0.5],
        "top_logprobs": [{token: -0.5, " world": -2.0}],
        "text_offset": [offset],
    }
    return {"choices": [{"index": 0, "text": token, "logprobs": logprobs, "finish_reason": finish_reason}]}


async def test_token_strings_become_ids_and_are_sorted() -> None:
    async with replaying(legacy(" world", {"a": -2.0, " world": -0.5})) as replay:
        (proposal,) = await drafted(openai(replay))
    assert (proposal.token_id, proposal.top_ids.tolist()) == (WORLD, [WORLD, 97])


async def test_a_fragment_spelled_in_bytes_becomes_its_id() -> None:
    async with replaying(legacy("bytes: \\xf0\\x9f", {"bytes: \\xf0\\x9f": -0.5, "a": -2.0})) as replay:
        (proposal,) = await drafted(openai(replay))
    assert proposal.token_id == LEAD


async def test_a_drawn_token_past_the_k_listed_is_not_part_of_the_list() -> None:
    async with replaying(legacy("c", {"c": -5.0, "b": -1.0, "a": -0.6})) as replay:
        (proposal,) = await drafted(openai(replay))
    assert (proposal.token_id, proposal.top_ids.tolist()) == (99, [97, 98])


async def test_a_text_that_two_ids_share_is_left_to_the_tail_which_may_then_hold_all_that_is_left() -> None:
    async with replaying(legacy("hello", {"hello": -0.5, "a": -2.0})) as replay:
        (proposal,) = await drafted(openai(replay))
    assert (proposal.token_id, proposal.top_ids.tolist(), proposal.top_logprobs.tolist()) == (None, [97], [-2.0])
    assert proposal.log_cap == pytest.approx(math.log(1 - math.exp(-2.0)))  # the other `hello` may be lost


async def test_a_map_that_lost_an_entry_to_an_equal_text_is_read_with_the_bound_that_is_left() -> None:
    async with replaying(legacy("a", {"a": -0.5, "hello": -2.0})) as replay:
        (proposal,) = await drafted(openai(replay, k=3))
    assert (proposal.token_id, proposal.top_ids.tolist()) == (97, [97])
    assert proposal.log_cap == pytest.approx(math.log(1 - math.exp(-0.5)))


@pytest.mark.parametrize("text", ["", "\ufffd", " \ufffd"])
async def test_a_part_of_a_character_is_not_named_by_its_text(text: str) -> None:
    listed = [{"token": text, "bytes": list(text.encode()), "logprob": -0.5}, {"token": "a", "logprob": -2.0}]
    async with replaying(chat_shaped({"token": "a", "logprob": -2.0}, listed)) as replay:
        (proposal,) = await drafted(openai(replay))
    assert (proposal.token_id, proposal.top_ids.tolist(), proposal.log_cap) == (97, [97], -0.5)


async def test_a_text_that_is_no_token_is_refused() -> None:
    async with replaying(legacy("a", {"a": -0.5, "abc": -2.0})) as replay:
        with pytest.raises(MalformedTopK, match="no token of the tokenizer"):
            await drafted(openai(replay))


async def test_a_list_that_lost_entries_to_equal_texts_is_refused() -> None:
    async with replaying(legacy("a", {"a": -0.5})) as replay:
        with pytest.raises(MalformedTopK, match="listed 1 tokens where 2"):
            await drafted(openai(replay))


async def test_chat_shaped_entries_go_by_their_bytes() -> None:
    listed = [{"token": "", "bytes": [32, 240, 159], "logprob": -0.5}, {"token": "a", "bytes": None, "logprob": -2.0}]
    async with replaying(chat_shaped({"token": "a", "bytes": None, "logprob": -2.0}, listed)) as replay:
        (proposal,) = await drafted(openai(replay))
    assert (proposal.token_id, proposal.top_ids.tolist()) == (97, [LEAD, 97])


async def test_chat_shaped_entries_go_by_their_ids_where_they_have_them() -> None:
    listed = [{"token": "hello", "token_id": TWIN, "logprob": -0.5}, {"token": "hello", "id": HELLO, "logprob": -2.0}]
    async with replaying(chat_shaped({"token": "hello", "token_id": TWIN, "logprob": -0.5}, listed)) as replay:
        (proposal,) = await drafted(openai(replay))
    assert (proposal.token_id, proposal.top_ids.tolist()) == (TWIN, [TWIN, HELLO])


async def test_the_request_has_only_fields_that_openai_knows_and_no_obfuscation() -> None:
    async with replaying(legacy("a", {"a": -0.5, "b": -2.0})) as replay:
        await drafted(openai(replay), temperature=2.7)
    assert replay.bodies() == [
        {
            "model": "m", "prompt": [97, 98], "max_tokens": 1, "temperature": 2.0, "top_p": 1.0,
            "presence_penalty": 0.0, "frequency_penalty": 0.0, "n": 1, "logprobs": 2, "stream": True,
            "stream_options": {"include_usage": True, "include_obfuscation": False},
        }
    ]  # fmt: skip


async def test_a_text_only_upstream_gets_text_that_comes_back_as_the_same_tokens() -> None:
    async with replaying(legacy("a", {"a": -0.5, "b": -2.0})) as replay:
        await drafted(openai(replay, ids_in=False), [97, WORLD])
    assert replay.bodies()[0]["prompt"] == "a world"


@pytest.mark.parametrize(
    "prefix", [[32, *b"world", *b"12345678"], [0xF0]], ids=["others, far back", "half a character"]
)
async def test_a_prefix_that_no_beginning_of_is_text_is_refused(prefix: list[int]) -> None:
    tokenizer = byte_tokenizer([b"hello", b" world", "\ufffd".encode()])
    async with replaying(legacy("a", {"a": -0.5, "b": -2.0})) as replay:
        with pytest.raises(UpstreamRefused, match="text only"):
            await drafted(openai(replay, ids_in=False, tokenizer=tokenizer), prefix)
    assert not replay.requests


@pytest.mark.parametrize(
    ("text", "raw"),
    [
        ("é", "é".encode()),
        ("bytes:\\xe2\\x80", b"\xe2\x80"),
        ("bytes:", b"bytes:"),
        ("bytes:é", "bytes:é".encode()[:0] + b"\xe9"),
    ],
)
def test_names_spell_their_bytes(text: str, raw: bytes) -> None:
    assert name_bytes(text) == raw
