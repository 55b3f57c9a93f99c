"""POST /v1/chat/completions, judged by openai-python."""

from typing import Any

import openai
import pytest

from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from tests.support.app import TEXT, RunningApp

pytestmark = pytest.mark.anyio

MESSAGES: Any = [{"role": "user", "content": "x"}]
PROMPT = "<|im_start|>user\nx<|im_end|>\n<|im_start|>assistant\n"


def said(prompt_tokens: int, count: int) -> str:
    at = prompt_tokens % len(TEXT)
    return (TEXT * 20)[at : at + count].decode(errors="replace")


def test_a_chat_answer_follows_the_rendered_template(client: openai.OpenAI, tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode(PROMPT, False)
    answer = client.chat.completions.create(
        model="tiny", messages=MESSAGES, temperature=0, max_completion_tokens=8, extra_body={"return_token_ids": True}
    )
    assert answer.choices[0].message.content == said(len(ids), 8)
    assert answer.choices[0].message.role == "assistant"
    assert answer.model_extra is not None
    assert answer.model_extra["prompt_token_ids"] == ids
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == len(ids)


def test_without_max_tokens_the_answer_fills_the_context(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="tiny", messages=MESSAGES, temperature=0)
    assert answer.usage is not None
    assert answer.usage.total_tokens == 512
    assert answer.choices[0].finish_reason == "length"


def test_the_final_message_can_be_continued(client: openai.OpenAI, tokenizer: Tokenizer) -> None:
    messages: Any = [*MESSAGES, {"role": "assistant", "content": [{"type": "text", "text": "We"}]}]
    answer = client.chat.completions.create(
        model="tiny", messages=messages, temperature=0, max_tokens=3,
        extra_body={"continue_final_message": True, "return_token_ids": True},
    )  # fmt: skip
    assert answer.model_extra is not None
    assert answer.model_extra["prompt_token_ids"] == tokenizer.encode(PROMPT + "We", False)


def test_typed_logprobs_carry_bytes(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="tiny", messages=MESSAGES, temperature=0, max_tokens=14, logprobs=True, top_logprobs=3
    )
    assert answer.choices[0].logprobs is not None and answer.choices[0].logprobs.content is not None
    entries = answer.choices[0].logprobs.content
    assert b"".join(bytes(entry.bytes or ()) for entry in entries).decode() == answer.choices[0].message.content
    assert all(len(entry.top_logprobs) == 3 for entry in entries)
    assert entries[0].top_logprobs[0].token == entries[0].token
    assert entries[0].top_logprobs[0].logprob == entries[0].logprob


@pytest.mark.parametrize("top", [None, 0, 2])
def test_a_seeded_stream_equals_the_seeded_answer_field_by_field(client: openai.OpenAI, top: int | None) -> None:
    request: dict[str, Any] = {
        "model": "tiny", "messages": MESSAGES, "seed": 11, "max_tokens": 25, "n": 2,
        "logprobs": top is not None, "extra_body": {"return_token_ids": True},
    }  # fmt: skip
    if top:
        request["top_logprobs"] = top
    answer = client.chat.completions.create(**request)
    chunks = list(client.chat.completions.create(**request, stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].usage == answer.usage
    for choice in answer.choices:
        parts = [part for chunk in chunks for part in chunk.choices if part.index == choice.index]
        assert parts[0].delta.role == "assistant"
        assert all(part.delta.role is None for part in parts[1:])
        assert "".join(part.delta.content or "" for part in parts) == choice.message.content
        assert parts[-1].finish_reason == choice.finish_reason
        ids = [i for part in parts[1:] for i in (part.model_extra or {})["token_ids"]]
        assert ids == (choice.model_extra or {})["token_ids"]
        entries = [entry for part in parts if part.logprobs for entry in part.logprobs.content or []]
        assert entries == ((choice.logprobs and choice.logprobs.content) or [])
    assert {chunk.system_fingerprint for chunk in chunks} == {answer.system_fingerprint}


async def test_the_async_client_and_its_stream_helper_work(app: RunningApp) -> None:
    async with openai.AsyncOpenAI(base_url=f"{app.url}/v1", api_key="k", max_retries=0) as client:
        request: dict[str, Any] = {"model": "tiny", "messages": MESSAGES, "temperature": 0, "stop": "é"}
        whole = await client.chat.completions.create(**request)
        async with client.chat.completions.stream(**request) as stream:
            final = await stream.get_final_completion()
    assert final.choices[0].message.content == whole.choices[0].message.content
