"""The lists along a prompt: several methods, one answer; and nothing is made of a partial one."""

import copy
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace

import numpy as np
import orjson
import pytest

from deltaserve.errors import MalformedTopK, UnsupportedParameter, UpstreamError, UpstreamRefused
from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from deltaserve.server.decoding.protocols import NO_FLOATS, NO_IDS, Block, DraftParams, Proposal
from deltaserve.server.upstream.http.transport import Limits, Timeouts
from deltaserve.server.upstream.listing.methods import NAMES
from deltaserve.server.upstream.listing.one_prompt import PromptLogprobs
from deltaserve.server.upstream.listing.prompt_list import PromptList
from deltaserve.server.upstream.listing.prompts import prompt_lists, require_scoring
from deltaserve.server.upstream.probing.connect import connect
from tests.server.upstream.dialects.test_vllm import chunk, vllm
from tests.support.blackbox import blackbox, forward, make_model
from tests.support.fake_upstream import FakeUpstream
from tests.support.replay import DONE, UNTIL_THE_CLIENT_LEAVES, Reply, event, recorded, replaying
from tests.support.table_tokenizer import byte_tokenizer

pytestmark = pytest.mark.anyio
GREEDY = DraftParams(0.0, 1)
K = 5
TEXT = "Well: she was born in a small house by the sea — 東京 🙂 — and became a clockmaker. " * 2
METHODS = ["prompt_logprobs", "echo", "prompt_list", "steps"]


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    make_model(folder)
    with blackbox(folder) as server:
        yield server, Tokenizer.load(folder), folder


def only(box, method):
    """Leaves it one method to score a prompt."""
    box.adopt(replace(box.capabilities, **dict.fromkeys(NAMES, False) | {method: True}))


async def lists_of(box, ids, **options):
    async with aclosing(prompt_lists(box, ids, GREEDY, **options)) as portions:
        return [proposal async for block, _ in portions for proposal in block.proposals]


@pytest.mark.parametrize("method", METHODS)
async def test_every_method_gives_the_lists_of_one_plain_forward_pass(running, method):
    server, tokenizer, folder = running
    box = await connect(server.url, tokenizer=tokenizer, k=K)
    try:
        facts = box.capabilities
        assert facts.prompt_logprobs and facts.echo and facts.prompt_list and facts.steps and not facts.generate
        only(box, method)
        ids = tokenizer.encode(TEXT)
        assert len(ids) > 64
        before = server.stats()["requests"]
        lists = await lists_of(box, ids)
        calls = {"prompt_logprobs": 1, "echo": 1, "prompt_list": -(-len(ids) // 32), "steps": len(ids)}
        assert server.stats()["requests"] == before + calls[method]
        draws = method != "echo"
        assert len(lists) == len(ids) - (not draws)
        for proposal, row in zip(lists, forward(folder, ids), strict=draws):
            assert proposal.top_logprobs == pytest.approx(row.topk(K).values.tolist(), abs=1e-3)
            assert row[proposal.top_ids].tolist() == pytest.approx(proposal.top_logprobs.tolist(), abs=1e-3)
        assert lists[-1].token_id == (int(row.argmax()) if draws else ids[-1])
    finally:
        await box.aclose()


PROMPT = [*b"The river runs north of the town"]


@asynccontextmanager
async def connected(fake, **options):
    async with replaying(fake) as replay:
        box = await connect(replay.url, tokenizer=byte_tokenizer(), k=K, limits=Limits(attempts=1), **options)
        replay.requests.clear()
        try:
            yield box, replay
        finally:
            await box.aclose()


ECHOING = {"echoes": lambda at: ""}


@pytest.mark.parametrize(
    ("method", "path", "fake"),
    [
        ("echo", "/v1/completions", FakeUpstream("openai", **ECHOING)),
        ("echo", "/v1/completions", FakeUpstream("vllm", max_prompt_k=0, **ECHOING)),
        ("generate", "/generate", FakeUpstream("openai", owner="sglang", generates=True)),
    ],
    ids=["a hosted echo", "vllm's echo", "sglang"],
)
async def test_a_server_that_lists_the_prompt_in_one_call_is_asked_once(method, path, fake):
    async with connected(fake) as (box, replay):
        assert next(name for name in NAMES if getattr(box.capabilities, name)) == method
        for goes_on in (True, False):
            lists = await lists_of(box, PROMPT, goes_on=goes_on)
            assert len(replay.requests) == len(replay.bodies(path)) == 1
            assert len(lists) == len(PROMPT) - 1
            replay.requests.clear()
        assert await lists_of(box, PROMPT[:1]) == [] and not replay.requests
        full = await lists_of(box, PROMPT, goes_on=False, max_context=len(PROMPT))
        assert len(replay.requests) == 2
        only(box, "steps")
        steps = await lists_of(box, PROMPT, goes_on=False)
        for one, other, last in zip(lists, steps, full, strict=True):
            assert one.top_ids.tolist() == other.top_ids.tolist() == last.top_ids.tolist()
            assert one.top_logprobs == pytest.approx(other.top_logprobs)
        own = [
            list_.token_logprob for list_, given in zip(lists, PROMPT[1:], strict=True) if given not in list_.top_ids
        ]
        assert method == "echo" or (own and None not in own), "SGLang tells each token's own number"


@pytest.mark.parametrize("fake", [{}, {"echoes": lambda at: "other weights"}, {"owner": "sglang"}])
async def test_a_method_that_does_not_give_the_lists_of_a_plain_step_is_not_used(fake):
    async with connected(FakeUpstream("openai", **fake)) as (box, replay):
        facts = box.capabilities
        assert (facts.echo, facts.generate, facts.prompt_list, facts.steps) == (False, False, True, True)
        assert len(await lists_of(box, PROMPT)) == len(PROMPT)
        assert [len(body["prompt"]) for body in replay.bodies()] == [len(PROMPT)]


BROKEN = Reply([b"oops"], 500, "text/plain")
HANGING = Reply([UNTIL_THE_CLIENT_LEAVES])


@pytest.mark.parametrize("reply", [BROKEN, HANGING], ids=["breaks", "hangs"])
async def test_a_server_that_breaks_or_hangs_over_an_echo_is_scored_without(reply):
    fake = FakeUpstream("openai")

    def answer(request):
        return reply if request.body and request.body.get("echo") else fake(request)

    async with connected(answer, timeouts=Timeouts(first_token_s=0.5)) as (box, _):
        assert not box.capabilities.echo and box.capabilities.prompt_list


async def test_a_method_that_fails_once_during_the_probe_is_tried_again():
    fake, failures = FakeUpstream("openai", **ECHOING), [BROKEN, BROKEN]

    def answer(request):
        body = request.body or {}
        listed = isinstance(body.get("prompt"), list) and isinstance(body["prompt"][0], list)
        if failures and (body.get("echo") if len(failures) == 2 else listed):
            return failures.pop()
        return fake(request)

    async with connected(answer) as (box, _):
        assert not failures and box.capabilities.echo and box.capabilities.prompt_list


async def test_an_empty_prompt_asks_nothing(running):
    server, tokenizer, _ = running
    box = await connect(server.url, tokenizer=tokenizer, k=K)
    try:
        before = server.stats()["requests"]
        assert await lists_of(box, []) == []
        assert server.stats()["requests"] == before
    finally:
        await box.aclose()


@pytest.mark.parametrize(
    ("method", "fault"),
    [
        ("prompt_logprobs", "repeated"),
        ("prompt_logprobs", "disconnect"),
        ("prompt_logprobs", "truncate"),
        ("echo", "repeated"),
        ("echo", "truncate"),
        ("prompt_list", "nan"),
        ("prompt_list", "end"),
        ("steps", "nan"),
        ("steps", "error"),
    ],
)
async def test_a_broken_answer_is_an_error(running, method, fault):
    server, tokenizer, _ = running
    box = await connect(server.url, tokenizer=tokenizer, k=K)
    only(box, method)
    try:
        server.client.post("/faults", json={"fault": fault, "times": 9}).raise_for_status()
        with pytest.raises(UpstreamError):
            await lists_of(box, tokenizer.encode("the cat sat"))
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
            return await PromptLogprobs(box).block(prefix, drafted, GREEDY), replay.bodies()[0]
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
        block = await PromptLogprobs(box).block((979,), (944,), replace(GREEDY, temperature=1.0))
        await box.aclose()
    assert (block.proposals[-1].token_id, block.proposals[-1].top_ids.tolist()) == (None, [7, 8])
    assert block.temperature is None


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("left", [0, 1, 2])
async def test_the_last_token_of_a_prompt_is_scored_like_the_others_when_nothing_follows_it(running, method, left):
    """`left`: tokens that the prompt leaves of the black box's context."""
    server, tokenizer, folder = running
    box = await connect(server.url, tokenizer=tokenizer, k=K)
    try:
        only(box, method)
        ids = (tokenizer.encode(TEXT) * 9)[: box.capabilities.max_context - left]
        row = forward(folder, ids[:-1])[-1]
        ids[-1] = int(row.argmin())
        lists = await lists_of(box, ids, goes_on=False, max_context=box.capabilities.max_context)
        last = lists[len(ids) - 2]
        assert last.top_logprobs == pytest.approx(row.topk(K).values.tolist(), abs=1e-3)
        if method == "prompt_logprobs" or (method == "echo" and left):
            assert (last.token_id, last.token_logprob) == (ids[-1], pytest.approx(row.min().item(), abs=1e-3))
    finally:
        await box.aclose()


async def test_where_a_bias_changes_the_lists_a_prompt_that_fills_the_context_is_refused_with_what_to_do():
    async with replaying(answer()) as replay:
        box = vllm(replay, k=2, raw=False)
        with pytest.raises(UpstreamRefused, match="leave one token out"):
            await lists_of(box, [979, 944, 3], goes_on=False, max_context=3)
        await box.aclose()


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


async def test_a_position_that_stays_hidden_fails_the_prompt(monkeypatch):
    async def block(self, token_ids, drafted, params):
        known = Proposal(1, np.array([1, 2]), np.log([0.5, 0.25]))
        return Block(0.0, [known, Proposal(None, NO_IDS, NO_FLOATS)][: len(drafted) + 1])

    class Box:
        capabilities = replace(CAPABILITIES, prompt_list=True)

    monkeypatch.setattr(PromptList, "block", block)
    with pytest.raises(MalformedTopK, match="every position"):
        await lists_of(Box(), [1, 2])


async def test_a_black_box_that_takes_text_only_cannot_be_scored():
    class TextOnly:
        capabilities = replace(CAPABILITIES, ids_in=False)

    with pytest.raises(UnsupportedParameter, match="token ids"):
        require_scoring(TextOnly())


CAPABILITIES = vllm(type("Nowhere", (), {"url": "http://127.0.0.1:9"})()).capabilities
CAPABILITIES = replace(CAPABILITIES, prompt_logprobs=False, prompt_list=False)
