"""Ollama: lines, texts, and an answer that is believed only where its own count agrees."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest

from deltaserve.errors import MalformedTopK, UpstreamUnreachable
from deltaserve.server.decoding.protocols import DraftParams, Proposal
from deltaserve.server.upstream.base import Capabilities
from deltaserve.server.upstream.dialects.ollama import LONGEST_CALL, Ollama
from deltaserve.server.upstream.http.transport import Limits, Transport
from tests.support.replay import Replay, Reply, replaying
from tests.support.table_tokenizer import TableTokenizer

pytestmark = pytest.mark.anyio

END, NOTE = 300, 301


class Named(TableTokenizer):
    special_ids = frozenset({END, NOTE})
    eos_ids = (END,)


EURO = "€".encode()
TOKENIZER = Named(
    302, {i: bytes([i]) for i in range(256)} | {256: b" \xe2", 257: EURO, END: b"<|end|>", NOTE: b"<|note|>"}
)


@asynccontextmanager
async def ollama(*answers: Reply, k: int = 2) -> AsyncIterator[tuple[Ollama, Replay]]:
    facts = Capabilities(
        dialect="ollama", server="Ollama", model="m", k=k, max_k=20, vocab_size=None, max_context=None, ids_in=False,
        ids_out=False, raw_logprobs=True, prompt_list=False, prompt_logprobs=False, prefix_cache=None,
    )  # fmt: skip
    async with replaying(*answers) as replay:
        box = Ollama(Transport(replay.url, limits=Limits(attempts=1)), TOKENIZER, facts)
        yield box, replay
        await box.aclose()


async def drafted(box: Ollama, tokens: int = 4, temperature: float = 0.0) -> list[Proposal]:
    async with box.draft(list(b"ab"), DraftParams(temperature, tokens)) as draft:
        return [proposal async for proposal in draft]


def token(text: str, own: float = -0.5, **listed: float) -> dict[str, Any]:
    table = listed or {text: own, "z": -3.0}
    told = [{"token": name, "logprob": value, "bytes": list(name.encode())} for name, value in table.items()]
    return {"token": text, "logprob": own, "bytes": list(text.encode()), "top_logprobs": told}


def line(text: str = "", *tokens: dict[str, Any], **more: Any) -> bytes:
    told = {"logprobs": list(tokens)} if tokens else {}
    return orjson.dumps({"model": "m", "response": text, "done": False} | told | more) + b"\n"


def end(count: int, reason: str = "length", text: str = "") -> bytes:
    return line(text, done=True, done_reason=reason, prompt_eval_count=2, eval_count=count)


def answer(*lines: bytes) -> Reply:
    return Reply(lines, content_type="application/x-ndjson")


def ids(proposals: Sequence[Proposal]) -> list[int | None]:
    return [proposal.token_id for proposal in proposals]


async def test_a_call_is_raw_is_never_cut_has_neutral_samplers_and_asks_for_few_tokens() -> None:
    async with ollama(answer(line("a", token("a")), end(1))) as (box, replay):
        await drafted(box, tokens=900, temperature=0.7)
    (body,) = replay.bodies("/api/generate")
    assert body["prompt"] == "ab" and body["raw"] and body["stream"]
    assert (body["truncate"], body["shift"], body["logprobs"], body["top_logprobs"]) == (False, False, True, 2)
    assert body["options"] == {
        "temperature": 0.7, "num_predict": LONGEST_CALL, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "typical_p": 1.0,
        "repeat_last_n": 0, "repeat_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0, "stop": [],
    }  # fmt: skip


async def test_nothing_is_handed_out_of_an_answer_whose_count_never_came() -> None:
    cut = Reply([line("a", token("a")), line("b", token("b"))], cut=True)
    async with ollama(cut) as (box, _), box.draft([97], DraftParams(0.0, 4)) as draft:
        assert draft.arrived() == []
        with pytest.raises(UpstreamUnreachable):
            await anext(aiter(draft))


async def test_a_token_that_left_no_trace_but_the_count_voids_its_whole_answer() -> None:
    """A special token without text was drawn between a and b: nobody knows where, and b's list is not a's next."""
    asked_again = answer(line("a", token("a")), end(1))
    async with ollama(answer(line("a", token("a")), line("b", token("b")), end(3)), asked_again) as (box, replay):
        proposals = await drafted(box, tokens=3)
    assert ids(proposals) == [None] and proposals[0].top_ids.tolist() == [97, 122]
    assert {body["prompt"] for body in replay.bodies("/api/generate")} == {"ab"}


async def test_a_character_that_came_with_what_was_held_back_is_not_taken_for_the_token_of_that_text() -> None:
    """€ is a token here too; what was drawn are its three bytes, and the list is the last one's."""
    held = token("€", -0.2, **{"": -0.2, "z": -3.0})
    async with ollama(answer(line("€", held), end(3)), answer(line("z", token("z")), end(1))) as (box, _):
        proposals = await drafted(box, tokens=3)
    assert ids(proposals) == [None] and 257 not in proposals[0].top_ids


async def test_a_whole_character_that_is_listed_is_that_token() -> None:
    async with ollama(answer(line("€", token("€")), end(1))) as (box, _):
        assert ids(await drafted(box, tokens=1)) == [257]


async def test_where_its_own_best_token_ends_the_answer_the_best_entry_is_that_end() -> None:
    spoken, silent = answer(line("a", token("a")), end(2, "stop")), answer(end(1, "stop"))
    hot = answer(line("z", token("z", -3.0, **{"": -0.1, "z": -3.0})), end(1))
    async with ollama(spoken, hot) as (box, replay):
        first, last = await drafted(box)
    assert (first.token_id, last.token_id, last.top_ids.tolist(), last.end_id) == (97, None, [END, 122], END)
    assert [body["options"]["temperature"] for body in replay.bodies("/api/generate")] == [0.0, 2.0]
    async with ollama(spoken, silent, hot) as (box, _):  # a sampled answer: what is best has to be asked
        _, last = await drafted(box, temperature=1.0)
    assert last.top_ids.tolist() == [END, 122] and last.log_cap is None


async def test_an_entry_without_text_is_no_end_where_the_answer_goes_on() -> None:
    spoken, goes_on = answer(line("a", token("a")), end(2, "stop")), answer(line("z", token("z", -3.0)), end(1))
    hot = answer(line("z", token("z", -3.0, **{"": -0.1, "z": -3.0})), end(1))
    async with ollama(spoken, goes_on, hot) as (box, _):
        _, last = await drafted(box, temperature=1.0)
    assert last.top_ids.tolist() == [122] and last.log_cap == pytest.approx(-0.1)


async def test_a_position_that_is_never_shown_is_unknown() -> None:
    async with ollama(answer(line("a", token("a")), end(5))) as (box, replay):
        (unknown,) = await drafted(box)
    assert unknown.token_id is None and not unknown.top_ids.size
    assert box.blind_positions == 1 and len(replay.requests) == 5


async def test_where_the_last_list_was_lost_one_token_more_is_asked_for_from_then_on() -> None:
    lost = answer(line("a", token("a")), end(2, text="b"))
    async with ollama(lost, lost, lost, answer(line("a", token("a")), line("b", token("b")), end(2))) as (box, replay):
        first = await drafted(box, tokens=2)
        assert ids(first) == [97, None]
        again = await drafted(box, tokens=1)
    assert ids(again) == [97]
    assert replay.bodies("/api/generate")[-1]["options"]["num_predict"] == 2


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ([line("a", token("a")), orjson.dumps({"error": "model runner has unexpectedly stopped"}) + b"\n"], None),
        ([line("a", token("a")), end(0)], MalformedTopK),
        ([line("a"), end(1)], MalformedTopK),
        ([line("a", token("a")), line("b", token("b"), token("c")), end(2)], MalformedTopK),
    ],
    ids=["an error", "fewer than shown", "text without a list", "a token more"],
)
async def test_what_contradicts_itself_gives_nothing(said: list[bytes], error: type[Exception] | None) -> None:
    async with ollama(answer(*said)) as (box, _):
        if error is None:
            with pytest.raises(UpstreamUnreachable):
                await drafted(box)
            return
        try:
            proposals = await drafted(box)
        except MalformedTopK:
            return
    assert all(not proposal.top_ids.size for proposal in proposals)


async def test_empty_lines_keep_the_connection_and_say_nothing() -> None:
    async with ollama(answer(b"\n", line("a", token("a")), b"\n\n", end(1))) as (box, _):
        assert ids(await drafted(box, tokens=1)) == [97]
