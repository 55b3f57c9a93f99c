"""The lists along a prompt: three ways to ask, one answer; and nothing is made of a partial one."""

import copy
from contextlib import aclosing
from dataclasses import replace

import numpy as np
import orjson
import pytest

from deltaserve.errors import MalformedTopK, UnsupportedParameter, UpstreamError, UpstreamRefused
from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from deltaserve.server.decoding.protocols import NO_FLOATS, NO_IDS, Block, DraftParams, Proposal
from deltaserve.server.upstream.listing.prompts import prompt_lists, require_scoring
from deltaserve.server.upstream.probing.connect import connect
from tests.server.upstream.dialects.test_vllm import chunk, vllm
from tests.support.blackbox import blackbox, forward, make_model
from tests.support.replay import DONE, Reply, event, recorded, replaying

pytestmark = pytest.mark.anyio
GREEDY = DraftParams(0.0, 1)
K = 5
TEXT = "Well: she was born in a small house by the sea — 東京 🙂 — and became a clockmaker. " * 2
WAYS = {
    "scored prompt": {"prompt_logprobs": True},
    "list of prompts": {"prompt_logprobs": False, "prompt_list": True},
    "single prompts": {"prompt_logprobs": False, "prompt_list": False},
}


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    make_model(folder)
    with blackbox(folder) as server:
        yield server, Tokenizer.load(folder), folder


async def asked(box, ids, params=GREEDY):
    async with aclosing(prompt_lists(box, ids, params)) as blocks:
        return [proposal async for block in blocks for proposal in block.proposals]


@pytest.mark.parametrize("way", WAYS)
async def test_every_way_gives_the_lists_of_one_plain_forward_pass(running, way):
    server, tokenizer, folder = running
    box = await connect(server.url, tokenizer=tokenizer, k=K)
    try:
        assert box.capabilities.prompt_logprobs and box.capabilities.prompt_list
        box.adopt(replace(box.capabilities, **WAYS[way]))
        ids = tokenizer.encode(TEXT)
        assert len(ids) > 64
        before = server.stats()["requests"]
        found = await asked(box, ids)
        calls = {"scored prompt": 1, "list of prompts": -(-len(ids) // 32), "single prompts": len(ids)}
        assert server.stats()["requests"] == before + calls[way]
        assert len(found) == len(ids)
        for proposal, row in zip(found, forward(folder, ids), strict=True):
            assert proposal.top_logprobs == pytest.approx(row.topk(K).values.tolist(), abs=1e-3)
            assert row[proposal.top_ids].tolist() == pytest.approx(proposal.top_logprobs.tolist(), abs=1e-3)
        assert found[-1].token_id == int(row.argmax())
    finally:
        await box.aclose()


async def test_an_empty_prompt_asks_nothing(running):
    server, tokenizer, _ = running
    box = await connect(server.url, tokenizer=tokenizer, k=K)
    try:
        before = server.stats()["requests"]
        assert await asked(box, []) == []
        assert server.stats()["requests"] == before
    finally:
        await box.aclose()


@pytest.mark.parametrize(
    ("way", "fault"),
    [
        ("scored prompt", "repeated"),
        ("scored prompt", "disconnect"),
        ("scored prompt", "truncate"),
        ("list of prompts", "nan"),
        ("list of prompts", "end"),
        ("single prompts", "nan"),
        ("single prompts", "error"),
    ],
)
async def test_a_broken_answer_is_an_error(running, way, fault):
    server, tokenizer, _ = running
    box = await connect(server.url, tokenizer=tokenizer, k=K)
    box.adopt(replace(box.capabilities, **WAYS[way]))
    try:
        server.client.post("/faults", json={"fault": fault, "times": 9}).raise_for_status()
        with pytest.raises(UpstreamError):
            await asked(box, tokenizer.encode("the cat sat"))
    finally:
        server.client.delete("/faults").raise_for_status()
        await box.aclose()


def answer(change=lambda choice: None):
    """The recorded answer to `prompt_logprobs: 2`, damaged; its drawn tokens named by id, as is asked for."""
    body = copy.deepcopy(orjson.loads(recorded("vllm/cmpl_prompt_logprobs.json")))
    choice = body["choices"][0]
    choice["logprobs"] = {"tokens": ["token_id:7"], "top_logprobs": [{"token_id:7": -0.5, "token_id:8": -1.5}]}
    change(choice)
    return Reply([orjson.dumps(body)], content_type="application/json")


async def scored(reply, prefix=(979,), drafted=(944,)):
    async with replaying(reply) as replay:
        box = vllm(replay, k=2)
        try:
            return await box.scored_prompt(prefix, drafted, GREEDY), replay.bodies()[0]
        finally:
            await box.aclose()


async def test_a_recorded_scored_prompt_gives_the_two_best_without_the_prompt_s_own_token():
    block, sent = await scored(answer())
    first, last = block.proposals
    assert (first.token_id, first.top_ids.tolist()) == (944, [1360, 1653])
    assert first.top_logprobs.tolist() == [-2.260338068008423, -2.510338068008423]
    assert (last.token_id, last.top_ids.tolist()) == (7, [7, 8])
    assert (sent["prompt"], sent["prompt_logprobs"], sent["max_tokens"]) == ([979, 944], 2, 1)
    assert "stream" not in sent and "stream_options" not in sent


async def test_a_prompt_that_is_ended_by_a_token_that_is_not_shown_has_the_list_after_it_asked_for():
    ended = answer(lambda choice: choice.update(logprobs=None, finish_reason="stop"))
    shown = Reply([event(chunk(5, {5: -8.0, 7: -0.5, 8: -1.5}, "length")), DONE])
    async with replaying(ended, shown) as replay:
        box = vllm(replay, k=2)
        block = await box.scored_prompt((979,), (944,), replace(GREEDY, temperature=1.0))
        await box.aclose()
    assert (block.proposals[-1].token_id, block.proposals[-1].top_ids.tolist()) == (None, [7, 8])
    assert block.temperature is None


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("left", [0, 1, 2])
async def test_the_last_token_of_a_prompt_is_told_like_the_others_when_nothing_follows_it(running, way, left):
    """`left`: tokens that the prompt leaves of the black box's context."""
    server, tokenizer, folder = running
    box = await connect(server.url, tokenizer=tokenizer, k=K)
    try:
        box.adopt(replace(box.capabilities, **WAYS[way]))
        ids = (tokenizer.encode(TEXT) * 9)[: box.capabilities.max_context - left]
        row = forward(folder, ids[:-1])[-1]
        ids[-1] = int(row.argmin())
        found = prompt_lists(box, ids, GREEDY, goes_on=False, max_context=box.capabilities.max_context)
        async with aclosing(found) as blocks:
            lists = [proposal async for block in blocks for proposal in block.proposals]
        last = lists[len(ids) - 2]
        assert last.top_logprobs == pytest.approx(row.topk(K).values.tolist(), abs=1e-3)
        if way == "scored prompt":
            assert (last.token_id, last.token_logprob) == (ids[-1], pytest.approx(row.min().item(), abs=1e-3))
    finally:
        await box.aclose()


async def test_where_a_bias_changes_the_lists_a_prompt_that_fills_the_context_is_refused_with_what_to_do():
    async with replaying(answer()) as replay:
        box = vllm(replay, k=2, raw=False)
        with pytest.raises(UpstreamRefused, match="leave one token out"):
            [block async for block in prompt_lists(box, [979, 944, 3], GREEDY, goes_on=False, max_context=3)]
        await box.aclose()


def position(**entries):
    return {name: {"logprob": value} for name, value in entries.items()}


@pytest.mark.parametrize(
    "damage",
    [
        lambda choice: choice.pop("prompt_logprobs"),
        lambda choice: choice["prompt_logprobs"].pop(),
        lambda choice: choice["prompt_logprobs"].append(None),
        lambda choice: choice.update(prompt_logprobs=[None, None]),
        lambda choice: choice["prompt_logprobs"][1].pop("1653"),
        lambda choice: choice["prompt_logprobs"][1].update({"1653": {"logprob": None}}),
        lambda choice: choice["prompt_logprobs"][1].update({"1653": {"logprob": 0.5}}),
        lambda choice: choice["prompt_logprobs"][1].update({"1653": {"logprob": -0.01}, "1360": {"logprob": -0.01}}),
        lambda choice: choice["prompt_logprobs"][1].update({"1653": {"logprob": -1.0}}),
        lambda choice: choice.update(prompt_logprobs=[None, {"x": {"logprob": -1.0}, "9": {"logprob": -2.0}}]),
        lambda choice: choice.update(prompt_logprobs=[None, {"99999": {"logprob": -1.0}, "9": {"logprob": -2.0}}]),
        lambda choice: choice.update(logprobs=None),
    ],
    ids=range(12),
)
async def test_a_malformed_scored_prompt_is_refused(damage):
    with pytest.raises(MalformedTopK):
        await scored(answer(damage))


async def test_an_error_instead_of_an_answer_is_that_error():
    reply = Reply([b'{"error": {"message": "secret words", "code": 500}}'], content_type="application/json")
    with pytest.raises(UpstreamError) as caught:
        await scored(reply)
    assert "secret" not in caught.value.message


async def test_a_position_that_stays_hidden_fails_the_prompt():
    class Hiding:
        capabilities = replace(CAPABILITIES, prompt_list=True)

        async def block(self, token_ids, drafted, params):
            seen = Proposal(1, np.array([1, 2]), np.log([0.5, 0.25]))
            return Block(0.0, [seen, Proposal(None, NO_IDS, NO_FLOATS)][: len(drafted) + 1])

    with pytest.raises(MalformedTopK, match="every position"):
        await asked(Hiding(), [1, 2])


async def test_a_black_box_that_takes_text_only_cannot_be_scored():
    class TextOnly:
        capabilities = replace(CAPABILITIES, ids_in=False)

    with pytest.raises(UnsupportedParameter, match="token ids"):
        require_scoring(TextOnly())


CAPABILITIES = vllm(type("Nowhere", (), {"url": "http://127.0.0.1:9"})()).capabilities
CAPABILITIES = replace(CAPABILITIES, prompt_logprobs=False, prompt_list=False)
