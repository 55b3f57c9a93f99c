"""Two methods to score a block of local drafts: the same lists, the same text, and the cheaper one by measurement."""

import asyncio
from dataclasses import dataclass, field, replace

import pytest

from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from deltaserve.server.decoding.decoder import decode
from deltaserve.server.decoding.drafting.adaptive import BlockLimits
from deltaserve.server.decoding.drafting.pace import Pace
from deltaserve.server.decoding.drafting.upstream import UpstreamSource
from deltaserve.server.decoding.params import SamplingParams
from deltaserve.server.decoding.protocols import Block, DraftParams
from deltaserve.server.upstream.listing.block_scorer import Timed, TimedScorer, block_scorer
from deltaserve.server.upstream.listing.one_prompt import PromptLogprobs
from deltaserve.server.upstream.listing.prompt_list import PromptList
from deltaserve.server.upstream.probing.connect import connect
from tests.server.decoding.drafting.test_sources import Scripted
from tests.server.upstream.listing.test_prompts import CAPABILITIES
from tests.support.blackbox import blackbox, make_model
from tests.support.toy import ToySession, toy_stream

pytestmark = pytest.mark.anyio
GREEDY = DraftParams(0.0, 1)


@dataclass
class TwoMethods:
    """Take so many seconds for a list and for a scored prompt, by their sizes."""

    list_s: float = 0.0
    prompt_s: float = 0.0
    calls: list[str] = field(default_factory=list)

    async def by_list(self, token_ids, drafted, params):
        self.calls.append("list")
        await asyncio.sleep(self.list_s * (len(drafted) + 1))
        return Block(0.0, [])

    async def by_prompt(self, token_ids, drafted, params):
        self.calls.append("prompt")
        await asyncio.sleep(self.prompt_s * (len(token_ids) + len(drafted)))
        return Block(0.0, [])

    def scorer(self, longest):
        return TimedScorer(Timed(self.by_list), Timed(self.by_prompt), longest)


async def blocks(methods, prefix, count, longest=256):
    scorer = methods.scorer(longest)
    for _ in range(count):
        await scorer.block([1] * prefix, [2] * 4, GREEDY)
    return methods.calls


async def test_each_method_is_timed_once_and_the_faster_one_stays():
    assert await blocks(TwoMethods(list_s=0.01, prompt_s=0.0001), 20, 8) == ["list", *["prompt"] * 7]
    assert await blocks(TwoMethods(list_s=0.0001, prompt_s=0.002), 20, 8) == ["list", "prompt", *["list"] * 6]


async def test_a_long_prefix_is_never_computed_anew():
    assert await blocks(TwoMethods(list_s=0.003), 20, 5, longest=23) == ["list"] * 5
    assert "prompt" in await blocks(TwoMethods(list_s=0.003), 20, 5, longest=24)


async def test_what_paid_for_a_short_prefix_is_given_up_where_the_prefix_has_grown():
    methods = TwoMethods(list_s=0.02, prompt_s=0.002)
    scorer = methods.scorer(256)
    for prefix in (10, 10, 10, 200, 200, 200):
        await scorer.block([1] * prefix, [2] * 4, GREEDY)
    assert methods.calls == ["list", "prompt", "prompt", "prompt", "list", "list"]


def test_without_prompt_logprobs_there_is_only_the_list_and_without_lists_nothing():
    class Box:
        capabilities = replace(CAPABILITIES, prompt_list=True, prompt_logprobs=True)

    box = Box()
    assert isinstance(block_scorer(box, 256), TimedScorer)
    assert isinstance(block_scorer(box, 0), PromptList)
    for facts, expected in (
        ({"prompt_logprobs": False}, PromptList),
        ({"prompt_list": False}, type(None)),
        ({"prefix_cache": False}, type(None)),
    ):
        box.capabilities = replace(Box.capabilities, **facts)
        assert isinstance(block_scorer(box, 256), expected)


@pytest.mark.parametrize(
    "sampling", [{"temperature": 0.0}, {"temperature": 0.9, "seed": 5}, {"temperature": 1.2, "top_p": 0.9, "seed": 6}]
)
async def test_the_tokens_are_the_same_by_either_method_of_scoring_blocks(model, sampling):
    server, tokenizer = model
    box = await connect(server.url, tokenizer=tokenizer, k=5)

    async def tokens(scorer, script):
        drafts = Scripted(UpstreamSource(box), scorer, Pace(), BlockLimits(), script=script)
        session = ToySession(size=tokenizer.vocab_size)
        stream = toy_stream(SamplingParams(max_tokens=24, **sampling), session=session, prompt=prompt)
        stream.detokenizer = None
        return [step.token_id async for step in decode(stream, drafts)], stream.stats

    prompt = tokenizer.encode("The river runs north")
    try:
        by_list, _ = await tokens(PromptList(box), (4, 2))
        by_prompt, stats = await tokens(PromptLogprobs(box), (3, 5))
        assert by_prompt == by_list
        assert stats.local_proposed > 0
        assert (await tokens(PromptList(box), (0,)))[0] == by_list
    finally:
        await box.aclose()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    make_model(folder)
    with blackbox(folder) as server:
        yield server, Tokenizer.load(folder)
