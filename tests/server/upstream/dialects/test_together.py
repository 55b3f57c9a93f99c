"""Together: the drawn token by its id, alternatives by texts in one map."""

import math
from typing import Any

import pytest

from deltaserve.errors import MalformedTopK
from deltaserve.server.decoding.protocols import DraftParams, Proposal
from deltaserve.server.upstream.base import Capabilities
from deltaserve.server.upstream.dialects.together import Together
from deltaserve.server.upstream.http.transport import Transport
from tests.support.replay import DONE, Replay, Reply, event, replaying
from tests.support.table_tokenizer import byte_tokenizer

pytestmark = pytest.mark.anyio

TOKENIZER = byte_tokenizer([b"hello", b"hello", b" world"])
HELLO, TWIN = 256, 257


async def drafted(replay: Replay, k: int = 2, tokens: int = 2, seed: int | None = None) -> list[Proposal]:
    facts = Capabilities(
        dialect="together", server="Together", model="m", k=k, max_k=20, vocab_size=None, max_context=None,
        ids_in=False, ids_out=False, raw_logprobs=True, prompt_list=False, prompt_logprobs=False, prefix_cache=None,
    )  # fmt: skip
    box = Together(Transport(replay.url), TOKENIZER, facts)
    try:
        async with box.draft([97, 98], DraftParams(1.7, tokens, seed)) as draft:
            assert draft.temperature is None
            return [proposal async for proposal in draft]
    finally:
        await box.aclose()


def chunk(token_id: int, text: str, table: dict[str, float] | None, own: float = -0.5, **more: Any) -> bytes:
    choice = {"index": 0, "text": text, "logprobs": own} | ({} if table is None else {"top_logprobs": table})
    token = {"id": token_id, "text": text, "logprob": own, "special": False}
    return event({"object": "completion.chunk", "choices": [choice], "token": token} | more)


def end(count: int, reason: str = "length") -> bytes:
    usage = {"prompt_tokens": 2, "completion_tokens": count}
    return event({"choices": [{"index": 0, "text": "", "finish_reason": reason}], "usage": usage})


async def test_the_body_has_neutral_samplers_and_text() -> None:
    async with replaying(Reply([chunk(97, "a", {"a": -0.5, "b": -2.0}), end(1), DONE])) as replay:
        await drafted(replay, tokens=1, seed=7)
    assert replay.bodies() == [
        {
            "model": "m", "prompt": "ab", "max_tokens": 1, "temperature": 1.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0,
            "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0, "n": 1, "stop": [],
            "logprobs": 2, "stream": True, "seed": 7,
        }
    ]  # fmt: skip


async def test_a_single_number_and_one_map_are_a_position() -> None:
    pieces = [chunk(97, "a", {"b": -2.0, "a": -0.5}), chunk(258, " world", {" world": -0.5, "a": -3.0}), end(2), DONE]
    async with replaying(Reply(pieces)) as replay:
        one, two = await drafted(replay)
    assert (one.token_id, one.top_ids.tolist(), one.log_cap) == (97, [97, 98], None)
    assert (two.token_id, two.top_ids.tolist()) == (258, [258, 97])


async def test_the_drawn_id_does_not_name_an_entry_by_chance() -> None:
    """Else what is listed, and so the corrected distribution, would depend on what was drawn."""
    async with replaying(Reply([chunk(TWIN, "hello", {"hello": -0.5, "a": -2.0}), end(1), DONE])) as replay:
        (proposal,) = await drafted(replay, tokens=1)
    assert (proposal.token_id, proposal.top_ids.tolist()) == (TWIN, [97])
    assert proposal.log_cap == pytest.approx(math.log(1 - math.exp(-2.0)))


async def test_an_end_is_told_by_its_own_reason() -> None:
    pieces = [chunk(97, "a", {"a": -0.5, "b": -2.0}), end(1, "eos"), DONE]
    async with replaying(Reply(pieces), Reply([chunk(98, "b", {"a": -0.7, "b": -0.9}, -0.9), end(1), DONE])) as replay:
        proposals = await drafted(replay, tokens=3)
    assert [proposal.token_id for proposal in proposals] == [97]


@pytest.mark.parametrize(
    "said",
    [
        [chunk(97, "a", None), end(1), DONE],
        [chunk(97, "a", {"a": -0.5}), end(1), DONE],
        [chunk(98, "b", {"a": -0.5, "c": -2.0}), end(1), DONE],
        [chunk(97, "a", {"a": -0.5, "b": -2.0}), chunk(98, "b", {"a": -0.5, "b": -2.0}, -2.0), end(1), DONE],
        [event({"choices": [{"index": 0, "text": "a", "top_logprobs": {"a": -0.5, "b": -2.0}}], "token": {}}), DONE],
    ],
    ids=["no list", "a short list", "a draw of the best left out", "a wrong count", "a draw without its id"],
)
async def test_what_contradicts_itself_is_refused(said: list[bytes]) -> None:
    async with replaying(Reply(said)) as replay:
        with pytest.raises(MalformedTopK):
            await drafted(replay)
