"""Fireworks: what is sent, one cache key for all calls of an answer, and ids that must agree."""

from typing import Any

import pytest

from deltaserve.errors import MalformedTopK
from deltaserve.server.decoding.decoder import decode
from deltaserve.server.decoding.drafting.upstream import UpstreamSource
from deltaserve.server.decoding.params import SamplingParams
from deltaserve.server.decoding.protocols import DraftParams
from deltaserve.server.upstream.dialects.fireworks import Fireworks as Dialect
from deltaserve.server.upstream.probing.connect import connect
from tests.server.upstream.conformance.rows import K, Row, drafted, opened, require_exact
from tests.support.replay import DONE, Reply, event, replaying
from tests.support.standins.fireworks import Fireworks
from tests.support.standins.oracle import PROMPT, SIZE, TOKENIZER
from tests.support.toy import ToySession, toy_stream

pytestmark = pytest.mark.anyio

ROW = Row("fireworks", "fireworks", Fireworks)


async def test_every_sampling_field_is_sent_and_lists_are_asked_for_in_the_shape_with_ids() -> None:
    params = DraftParams(0.7, 9, seed=3, stream="one answer")
    async with opened(ROW) as (box, replay), box.draft(PROMPT, params) as draft:
        assert draft.temperature is None  # filters of its own may be on: what it draws is a guess
    assert replay.bodies() == [
        {
            "model": "tiny", "prompt": list(PROMPT), "max_tokens": 9, "temperature": 0.7, "top_p": 1.0, "top_k": 0,
            "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0, "n": 1,
            "ignore_eos": False, "stop": [], "logprobs": True, "top_logprobs": K, "return_token_ids": True,
            "context_length_exceeded_behavior": "error", "stream": True, "stream_options": {"include_usage": True},
            "seed": 3, "prompt_cache_key": "one answer",
        }
    ]  # fmt: skip


async def test_all_calls_of_an_answer_have_one_cache_key_and_no_other_answer_has_it() -> None:
    stand_in, params = Fireworks(), SamplingParams(max_tokens=12, temperature=0.0)
    async with replaying(stand_in) as replay:
        box = ROW.box(replay.url)
        for _ in range(2):
            stream = toy_stream(params, session=ToySession(SIZE, strength=3.0), prompt=PROMPT)
            assert len([step async for step in decode(stream, UpstreamSource(box))]) == 12
            assert stream.stats.upstream_calls > 1
        await box.aclose()
    assert len(set(stand_in.keys)) == 2 and None not in stand_in.keys
    text = TOKENIZER.decode(PROMPT).split()
    assert not any(word in key for key in stand_in.keys if key for word in text)


async def test_it_is_detected_and_measured() -> None:
    async with replaying(Fireworks()) as replay:
        box = await connect(replay.url, tokenizer=TOKENIZER, k=20)
        facts = box.capabilities
        (proposal,) = await drafted(box)
        await box.aclose()
    assert isinstance(box, Dialect)
    assert (facts.server, facts.k, facts.max_k, facts.max_context) == ("Fireworks", 5, 5, 512)
    assert facts.ids_in and facts.ids_out and not box.trusts_draws
    require_exact(proposal, PROMPT)


def entry(token: int, top: dict[int, float]) -> dict[str, Any]:
    listed = [{"token": "", "token_id": i, "bytes": [], "logprob": value} for i, value in top.items()]
    return {"token": "", "token_id": token, "bytes": [], "logprob": top.get(token, -4.0), "top_logprobs": listed}


TOP = {5: -0.5, 6: -1.5, 7: -2.5, 8: -3.0, 9: -3.5}


@pytest.mark.parametrize(
    "choice",
    [
        {"logprobs": {"content": [entry(5, TOP)]}, "token_ids": [6]},
        {"logprobs": {"content": [entry(5, TOP)]}, "token_ids": [5, 6]},
        {"logprobs": {"content": [entry(10, TOP) | {"logprob": -1.0}]}},
        {"logprobs": {"content": [entry(5, TOP) | {"logprob": -0.9}]}},
        {"logprobs": {"content": [{**entry(5, TOP), "token_id": "5"}]}},
        {"logprobs": {"tokens": ["a"], "token_logprobs": [-0.5], "top_logprobs": [{"a": -0.5}]}},
    ],
    ids=["another id", "two ids", "among the best", "told twice", "no id", "the shape that is keyed by text"],
)
async def test_an_answer_that_contradicts_itself_is_refused(choice: dict[str, Any]) -> None:
    chunk = event({"choices": [{"index": 0, "text": "a", "finish_reason": None} | choice]})
    async with replaying(Reply([chunk, DONE])) as replay:
        box = ROW.box(replay.url)
        with pytest.raises(MalformedTopK):
            await drafted(box)
        await box.aclose()
