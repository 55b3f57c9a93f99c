"""A call that is opened early changes when tokens come, never which; and nothing stays open."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from deltaserve.errors import UpstreamUnreachable
from deltaserve.server.decoding.deciding import blind
from deltaserve.server.decoding.decoder import decode
from deltaserve.server.decoding.drafting.acceptance import Acceptance
from deltaserve.server.decoding.drafting.adaptive import BlockLimits
from deltaserve.server.decoding.drafting.early_calls import EarlyCall, Record, Records
from deltaserve.server.decoding.drafting.sources import Drafting
from deltaserve.server.decoding.drafting.upstream import UpstreamSource
from deltaserve.server.decoding.params import SamplingParams
from deltaserve.server.decoding.protocols import DraftParams
from deltaserve.server.decoding.rows import NumpyRow
from tests.server.decoding.drafting.test_sources import joint
from tests.support.statistics import ALARM, p_value
from tests.support.toy import ToyBlackBox, ToySession, toy_stream

pytestmark = pytest.mark.anyio
GREEDY = SamplingParams(max_tokens=24, temperature=0.0)


class SlowBox(ToyBlackBox):
    """Answers after the pair has had its turn, as a real one does."""

    def draft(self, token_ids, params):
        return Late(super().draft(token_ids, params))


class Late:
    def __init__(self, inner):
        self.inner = inner

    async def __aenter__(self):
        for _ in range(5):
            await asyncio.sleep(0)
        return await self.inner.__aenter__()

    async def __aexit__(self, *error):
        return await self.inner.__aexit__(*error)


class FixedPair(ToySession):
    def __init__(self, row):
        super().__init__()
        self.only_row = row

    async def row(self, token_ids):
        return self.only_row


@pytest.fixture
def eager(monkeypatch):
    """Every choice of the pair counts as strong."""
    monkeypatch.setattr(blind, "STRONG_NATS", -np.inf)
    monkeypatch.setattr(blind, "LIKELY_NATS", -np.inf)


def drafts_of(black_box):
    sure = Records(greedy=Record(Acceptance(1.0)), sampled=Record(Acceptance(1.0)))
    return UpstreamSource(black_box, early_call=EarlyCall(black_box, sure))


async def tokens(stream, drafts):
    return [step.token_id async for step in decode(stream, drafts)]


@pytest.mark.parametrize("changes", [{}, {"temperature": 0.9, "seed": 4}, {"presence_penalty": 0.7}])
async def test_text_does_not_depend_on_early_calls(eager, changes):
    params = replace(GREEDY, **changes)
    expected = await tokens(toy_stream(params), UpstreamSource(ToyBlackBox()))
    black_box, stream = SlowBox(), toy_stream(params)
    assert await tokens(stream, drafts_of(black_box)) == expected
    assert 0 < stream.stats.early_used <= stream.stats.early_calls
    assert stream.stats.upstream_calls >= len(black_box.calls)  # some are given up before they are sent
    assert black_box.closed == len(black_box.calls)


async def test_an_early_call_asks_for_the_tokens_after_the_expected_one(eager):
    black_box, stream = SlowBox(), toy_stream(replace(GREEDY, min_tokens=6))
    await tokens(stream, drafts_of(black_box))
    (first, asked), (early, rest) = black_box.calls[:2]
    assert early[:-1] == first
    assert (rest.max_tokens, rest.min_tokens) == (asked.max_tokens - 1, asked.min_tokens - 1)


@pytest.mark.parametrize("draws", [700, pytest.param(20_000, marks=pytest.mark.slow)])
async def test_sampled_tokens_follow_the_exact_joint_distribution_with_early_calls(eager, draws):
    size = 4
    sampling, counts = SamplingParams(max_tokens=2, temperature=1.0), np.zeros((4, 4))
    black_box, session, used = SlowBox(size=size, k=2), ToySession(size=size), 0
    for _ in range(draws):
        stream = toy_stream(sampling, session=session)
        first, second = await tokens(stream, drafts_of(black_box))
        counts[first, second] += 1
        used += stream.stats.early_used
    assert used > draws / 20
    assert p_value(counts, joint(sampling, size, k=2)) > ALARM


async def test_early_calls_become_rare_while_they_are_not_useful(eager):
    records, sampled = Records(), replace(GREEDY, temperature=0.9, seed=4)
    record = records.of(toy_stream(GREEDY))
    assert record.worth_trying()
    for _ in range(20):
        record.useful.add(0.0)
    assert [record.worth_trying() for _ in range(32)].count(True) == 2
    stream, black_box = toy_stream(replace(GREEDY, max_tokens=5)), SlowBox()
    await tokens(stream, UpstreamSource(black_box, early_call=EarlyCall(black_box, records)))
    assert stream.stats.early_calls == 0
    assert records.of(toy_stream(sampled)).worth_trying()  # what greedy streams met says nothing of sampled ones
    for _ in range(20):
        record.useful.add(1.0)
    assert record.worth_trying()


async def test_an_answer_that_is_given_up_leaves_nothing_open(eager):
    black_box = SlowBox()
    steps = decode(toy_stream(GREEDY), drafts_of(black_box))
    await anext(steps)
    await steps.aclose()
    assert black_box.closed == len(black_box.calls)


async def test_an_early_call_that_fails_is_tried_again_like_any_other(eager):
    expected = await tokens(toy_stream(GREEDY), UpstreamSource(ToyBlackBox()))
    black_box = SlowBox(faults=[None, UpstreamUnreachable("gone")])
    assert await tokens(toy_stream(GREEDY), drafts_of(black_box)) == expected
    assert black_box.closed == len(black_box.calls)


async def test_the_early_call_of_a_call_that_failed_is_closed_when_the_next_one_is_opened(eager):
    class RememberingBox(ToyBlackBox):
        def draft(self, token_ids, params):
            contexts.append(super().draft(token_ids, params))  # else the garbage collector would close it
            return contexts[-1]

    contexts, black_box, stream = [], RememberingBox(), toy_stream(GREEDY)
    early_call = EarlyCall(black_box, Records())
    for opened in (1, 2):  # nothing is decided in between: the call that the first one ran beside has failed
        early_call.watch(stream, DraftParams(0.0, 8))
        for _ in range(20):
            await asyncio.sleep(0)
        assert (len(contexts), black_box.closed) == (opened, opened - 1)
    await early_call.aclose()
    assert black_box.closed == 2


async def test_a_token_is_expected_only_where_the_offset_of_the_pairs_choice_is_strong():
    base = np.log(np.array([0.1, 0.5, 0.4]))
    for said, sign in (([0.8, 0.1, 0.1], 0), ([0.15, 0.7, 0.15], None), ([0.4, 0.3, 0.3], None)):
        pair = FixedPair(NumpyRow(base, np.log(np.array(said)) - base))
        assert await toy_stream(GREEDY, session=pair).corrector.expected() == sign
    ends = replace(GREEDY, eos_ids=frozenset({0}))
    sure = FixedPair(NumpyRow(base, np.log(np.array([0.8, 0.1, 0.1])) - base))
    assert await toy_stream(ends, session=sure).corrector.expected() is None


def test_an_operator_can_turn_early_calls_off():
    box = ToyBlackBox()
    assert Drafting(BlockLimits(), early_calls=False).source(box, None).early_call is None
