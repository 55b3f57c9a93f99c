"""Chats: what is sent, how vendors word that the answer has begun, and channels that cannot be corrected."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from deltaserve.errors import UncorrectableUpstream, UpstreamRefused
from deltaserve.server.decoding.protocols import DraftParams, Proposal
from deltaserve.server.upstream.base import Capabilities, Dialect
from deltaserve.server.upstream.dialects.chat import Chat
from deltaserve.server.upstream.dialects.table import box_of
from deltaserve.server.upstream.http.transport import Transport
from tests.support.replay import DONE, Reply, event, replaying
from tests.support.standins.chat import DeepSeek as DeepSeekServer
from tests.support.standins.chat import OpenRouter as OpenRouterServer
from tests.support.standins.oracle import PROMPT, SIZE, TOKENIZER
from tests.support.table_tokenizer import byte_tokenizer

pytestmark = pytest.mark.anyio

K = 2
QUESTION = {"role": "user", "content": "Who was it"}
UNBEGUN = list(b"Who was it? ")


def facts(dialect: Dialect, provider: str | None = None) -> Capabilities:
    return Capabilities(
        dialect=dialect, server="x", model="tiny", k=K, max_k=20, vocab_size=SIZE, max_context=512, ids_in=False,
        ids_out=False, raw_logprobs=True, prompt_list=False, prompt_logprobs=False, prefix_cache=None,
        provider=provider,
    )  # fmt: skip


@asynccontextmanager
async def asked(dialect: Dialect, server: Any, provider: str | None = None) -> AsyncIterator[tuple[Any, Any]]:
    async with replaying(server) as replay:
        box = box_of(Transport(replay.url), TOKENIZER, facts(dialect, provider))
        yield box, replay
        await box.aclose()


async def drafted(box: Any, prefix: Any = PROMPT, tokens: int = 1) -> list[Proposal]:
    async with box.draft(prefix, DraftParams(0.0, tokens, 3)) as draft:
        return [proposal async for proposal in draft]


def entry(text: str, logprob: float) -> dict[str, Any]:
    return {"token": text, "logprob": logprob, "bytes": list(text.encode())}


def chunk(said: dict[str, Any], *listed: dict[str, Any], reason: str | None = None) -> bytes:
    logprobs = {"content": [listed[0] | {"top_logprobs": list(listed)}]} if listed else None
    return event({"choices": [{"index": 0, "delta": said, "logprobs": logprobs, "finish_reason": reason}]})


ANSWER = Reply(
    [
        chunk({"role": "assistant", "content": ""}),
        chunk({"content": "a"}, entry("a", -0.5), entry("b", -2.0), entry("c", -3.0)),
        chunk({}, reason="length"),
        event({"choices": [], "usage": {"prompt_tokens": 15, "completion_tokens": 1}}),
        DONE,
    ]
)


async def test_vllm_and_sglang_are_told_to_go_on_with_the_last_message_and_asked_for_one_entry_more() -> None:
    async with asked("chat", ANSWER) as (box, replay):
        (proposal,) = await drafted(box)
        await drafted(box, UNBEGUN)
    begun, unbegun = replay.bodies("/v1/chat/completions")
    assert begun["messages"] == [QUESTION, {"role": "assistant", "content": "He"}]
    assert (begun["continue_final_message"], begun["add_generation_prompt"]) == (True, False)
    assert unbegun["messages"] == [QUESTION] and "continue_final_message" not in unbegun
    assert (begun["top_logprobs"], begun["top_k"], begun["min_p"], begun["repetition_penalty"]) == (K + 1, -1, 0, 1)
    assert (begun["temperature"], begun["top_p"], begun["n"], begun["seed"]) == (0, 1, 1, 3)
    assert (proposal.token_id, proposal.top_ids.tolist()) == (97, [97, 98])


async def test_vllms_drawn_token_takes_no_place_from_the_best() -> None:
    drawn_first = chunk({"content": "z"}, entry("z", -9.0), entry("a", -0.5), entry("b", -2.0))
    async with asked("chat", Reply([drawn_first, chunk({}, reason="length"), DONE])) as (box, _):
        (proposal,) = await drafted(box)
    assert (proposal.token_id, proposal.top_ids.tolist()) == (ord("z"), [97, 98])


async def test_deepseek_is_asked_by_its_prefix_without_thinking_and_with_its_own_fields_alone() -> None:
    async with asked("deepseek", DeepSeekServer()) as (box, replay):
        await drafted(box)
    (body,) = replay.bodies("/beta/chat/completions")
    assert body["messages"][-1] == {"role": "assistant", "content": "He", "prefix": True}
    assert body["thinking"] == {"type": "disabled"} and body["top_logprobs"] == K
    assert not body.keys() & {"seed", "n", "top_k", "min_p", "logit_bias", "continue_final_message"}


async def test_openrouter_is_asked_of_one_provider_whose_prompts_are_not_shortened() -> None:
    async with asked("openrouter", OpenRouterServer(), "mine/fp8") as (box, replay):
        await drafted(box)
    (body,) = replay.bodies("/v1/chat/completions")
    assert body["provider"] == {
        "only": ["mine/fp8"], "order": ["mine/fp8"], "allow_fallbacks": False, "require_parameters": True,
    }  # fmt: skip
    assert body["transforms"] == [] and body["reasoning"] == {"enabled": False}


async def test_openrouter_is_refused_without_a_provider() -> None:
    with pytest.raises(UncorrectableUpstream, match="--upstream-provider"):
        box_of(Transport("http://127.0.0.1:9"), TOKENIZER, facts("openrouter"))


async def test_an_answer_of_another_provider_is_not_used() -> None:
    async with asked("openrouter", OpenRouterServer(falls_over_at=2), "mine/fp8") as (box, _):
        await drafted(box)
        with pytest.raises(UpstreamRefused, match="Another provider"):
            await drafted(box)


async def test_the_pinned_provider_is_used_again_after_another_one_had_answered() -> None:
    server = OpenRouterServer(falls_over_at=2)
    async with asked("openrouter", server, "mine/fp8") as (box, _):
        await drafted(box)
        with pytest.raises(UpstreamRefused, match="Another provider"):
            await drafted(box)
        server.falls_over_at = None
        assert await drafted(box)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"reasoning_content": "Let me see"}, "chain of thought"),
        ({"reasoning": "Let me see"}, "chain of thought"),
        ({"tool_calls": [{"index": 0}]}, "tool call"),
    ],
)
async def test_what_comes_by_another_channel_ends_the_answer(said: dict[str, Any], reason: str) -> None:
    async with asked("chat", Reply([chunk(said), DONE])) as (box, _):
        with pytest.raises(UpstreamRefused, match=reason):
            await drafted(box)


async def test_a_prompt_that_is_no_chat_is_refused_without_asking() -> None:
    async with asked("chat", ANSWER) as (box, replay):
        with pytest.raises(UpstreamRefused, match="as text only"):
            await drafted(box, list(b"Once upon a time there was a king"))
    assert replay.requests == []


async def test_a_pair_without_a_chat_template_cannot_stand_before_chats() -> None:
    with pytest.raises(UncorrectableUpstream, match="no chat template"):
        Chat(Transport("http://127.0.0.1:9"), byte_tokenizer(), facts("chat"))
