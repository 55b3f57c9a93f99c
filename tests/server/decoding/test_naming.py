"""Ids asked for by name: what is asked, that the target comes closer to the truth, and that every token stays exact."""

import itertools
from collections.abc import Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltaserve.errors import MalformedTopK, UpstreamUnreachable
from deltaserve.server.decoding.correction import correct
from deltaserve.server.decoding.deciding.corrector import AnswerSpec
from deltaserve.server.decoding.deciding.from_row import decide_from_row
from deltaserve.server.decoding.deciding.naming import (
    NamesWanted,
    from_beside,
    likely_names,
    likely_next,
    names_wanted,
    tail_share,
    unlisted,
    with_names,
)
from deltaserve.server.decoding.decoder import decode
from deltaserve.server.decoding.drafting.local import BlockDraft, verified_block
from deltaserve.server.decoding.drafting.naming import Namer, fitting
from deltaserve.server.decoding.drafting.primed import PrimedSource
from deltaserve.server.decoding.drafting.upstream import CallLength, UpstreamSource
from deltaserve.server.decoding.history import History
from deltaserve.server.decoding.noise import Noise
from deltaserve.server.decoding.params import SamplingParams
from deltaserve.server.decoding.policy import Naming, Policy
from deltaserve.server.decoding.protocols import DraftParams, Proposal
from deltaserve.server.decoding.rows import NumpyRow
from deltaserve.server.decoding.sampling import target
from tests.server.decoding.test_decoder import oracle
from tests.support.statistics import ALARM, p_value
from tests.support.toy import ToyBlackBox, ToyNames, ToySession, toy_logprobs, toy_stream

pytestmark = pytest.mark.anyio

SIZE, K = 40, 3
GREEDY = SamplingParams(max_tokens=16, temperature=0.0)
ALWAYS = Naming(tail=0.05, certify=True, most=12)
AUTO = Naming(tail=0.05, most=12)


def row_after(prefix: Sequence[int]) -> NumpyRow:
    base = toy_logprobs("initial", prefix, SIZE)
    return NumpyRow(base, toy_logprobs("unlearned", prefix, SIZE) - base)


def listed_after(prefix: Sequence[int], k: int = K) -> Proposal:
    logprobs = toy_logprobs("black box", prefix, SIZE)
    top = np.argsort(-logprobs, kind="stable")[:k]
    return Proposal(int(top[0]), top, logprobs[top])


def goal_of(proposal: Proposal, prefix: Sequence[int], params: SamplingParams = GREEDY):
    return target(correct(proposal, row_after(prefix)), params, History(params, prefix))


def completed(prefix: Sequence[int], naming: Naming = ALWAYS, params: SamplingParams = GREEDY) -> Proposal:
    proposal = listed_after(prefix)
    ids = names_wanted(proposal, goal_of(proposal, prefix, params), naming)
    if not ids.size:
        return proposal
    return with_names(proposal, ids, toy_logprobs("black box", prefix, SIZE)[ids])


prefixes = st.lists(st.integers(0, SIZE - 1), min_size=3, max_size=3)


@given(prefixes, st.sampled_from([0.0, 1.0]))
def test_the_ids_that_the_pair_lifts_most_are_asked_for_and_the_end(prefix, temperature):
    proposal = listed_after(prefix)
    params = replace(GREEDY, eos_ids=frozenset({7}), temperature=temperature)
    goal = goal_of(proposal, prefix, params)
    names = names_wanted(proposal, goal, ALWAYS).tolist()
    if goal.certified if temperature == 0.0 else tail_share(goal.corrected) <= 0.05:
        assert names == []
        return
    offset, listed = row_after(prefix).log_offset, proposal.top_ids.tolist()
    order = [i for i in np.argsort(-offset, kind="stable").tolist() if i not in listed]
    if temperature == 0.0:  # those that could be the best one
        best = (proposal.top_logprobs + offset[listed]).max()
        assert names == [i for i in order if offset[i] > best - proposal.top_logprobs[-1]][:12]
    else:
        ends = [] if 7 in listed else [7]
        assert names == [*[i for i in order if i != 7][: 12 - len(ends)], *ends]
    assert names_wanted(replace(proposal, named=True), goal, ALWAYS).size == 0
    assert names_wanted(proposal, goal, None).size == 0


@given(prefixes)
def test_where_the_tail_weighs_little_only_certainty_is_a_reason_to_ask(prefix):
    proposal = listed_after(prefix)
    goal = goal_of(proposal, prefix)
    wanted = bool(names_wanted(proposal, goal, AUTO).size)
    assert wanted == (not goal.certified and tail_share(goal.corrected) > 0.05)
    sampled = goal_of(proposal, prefix, SamplingParams(max_tokens=1))
    for naming in (AUTO, ALWAYS):
        assert bool(names_wanted(proposal, sampled, naming).size) == (tail_share(sampled.corrected) > 0.05)


@given(prefixes)
def test_what_is_certain_with_named_ids_is_what_the_whole_vocabulary_says(prefix):
    goal = goal_of(completed(prefix), prefix)
    if goal.certified:
        assert goal.best() == goal_of(listed_after(prefix, SIZE), prefix).best()


@given(prefixes)
def test_with_every_id_named_the_target_is_the_whole_one(prefix):
    sampled = SamplingParams(max_tokens=1)
    whole = goal_of(listed_after(prefix, SIZE), prefix, sampled)
    named = completed(prefix, replace(ALWAYS, most=SIZE), sampled)
    if named.named:
        found = goal_of(named, prefix, sampled)
        np.testing.assert_allclose(found.probs, whole.probs, atol=1e-9)


def test_named_ids_make_certain_what_was_not_and_bring_the_target_closer():
    sampled, prefixes = SamplingParams(max_tokens=1), np.random.default_rng(3).integers(0, SIZE, (300, 3)).tolist()
    uncertain = [prefix for prefix in prefixes if not goal_of(listed_after(prefix), prefix).certified]
    still = [prefix for prefix in uncertain if not goal_of(completed(prefix), prefix).certified]
    assert len(uncertain) > 100 and len(still) < 0.2 * len(uncertain)
    before, after = [], []
    for prefix in prefixes:
        whole = goal_of(listed_after(prefix, SIZE), prefix, sampled).probs
        for distances, proposal in ((before, listed_after(prefix)), (after, completed(prefix, params=sampled))):
            distances.append(0.5 * np.abs(goal_of(proposal, prefix, sampled).probs - whole).sum())
    assert np.mean(after) < 0.5 * np.mean(before)


def test_named_ids_are_told_after_the_list_and_never_above_its_last_one():
    proposal = Proposal(1, np.array([1, 2]), np.log([0.5, 0.2]))
    named = with_names(proposal, np.array([5, 2, 6, 7]), np.array([-3.0, -0.1, -1.0, -9999.0]))
    assert named.top_ids.tolist() == [1, 2, 6, 5, 7]
    np.testing.assert_allclose(named.top_logprobs, [np.log(0.5), np.log(0.2), np.log(0.2), -3.0, -9999.0])
    assert named.named and named.log_cap == np.log(0.2)


@pytest.mark.parametrize("numbers", [[float("nan"), -3.0], [-1.7, -1.7]], ids=["nan", "more than one"])
def test_numbers_that_cannot_be_are_refused(numbers):
    proposal = Proposal(1, np.array([1, 2]), np.log([0.6, 0.3]))
    with pytest.raises(MalformedTopK):
        with_names(proposal, np.array([5, 6]), np.array(numbers))


def test_positions_are_asked_about_together_as_far_as_their_ids_fit():
    wanted = [(0, np.array([3, 1])), (1, np.array([9, 1, 8])), (2, np.array([1, 7])), (3, np.array([3]))]
    chosen, ids = fitting(wanted, 3)
    assert [place for place, _ in chosen] == [0, 2, 3] and ids.tolist() == [1, 3, 7]


GOING_ON = replace(AUTO, ahead=6)


@given(prefixes)
def test_a_greedy_step_that_ends_the_draft_is_asked_about_where_the_call_tells_more(prefix):
    proposal = listed_after(prefix)
    goal = goal_of(proposal, prefix)
    other = goal.best() != proposal.top_ids[0]
    may = tail_share(goal.corrected) > 0.05 or other
    assert bool(names_wanted(proposal, goal, GOING_ON).size) == (not goal.certified and may)
    assert likely_next(proposal, goal, GOING_ON) == (goal.best() if other else None)
    assert likely_next(proposal, goal, AUTO) is None
    for params in (SamplingParams(max_tokens=1), replace(GREEDY, top_logprobs=2), replace(GREEDY, logit_bias={1: 1.0})):
        assert likely_next(proposal, goal_of(proposal, prefix, params), GOING_ON) is None


@given(prefixes, st.integers(0, 12))
def test_without_a_list_what_is_certain_is_what_the_whole_vocabulary_says(prefix, n):
    logprobs, row = toy_logprobs("black box", prefix, SIZE), row_after(prefix)
    best, names = int(logprobs.argmax()), row.lifted(n, np.array([], np.int64))
    proposal = unlisted(best, float(logprobs[best]), names, logprobs[names])
    assert set(proposal.top_ids.tolist()) == {best, *names.tolist()} and (np.diff(proposal.top_logprobs) <= 0).all()
    untold = np.setdiff1d(np.arange(SIZE), proposal.top_ids)
    assert proposal.log_cap is not None and logprobs[untold].max() <= proposal.log_cap
    if goal_of(proposal, prefix).certified:
        assert goal_of(proposal, prefix).best() == goal_of(listed_after(prefix, SIZE), prefix).best()


def test_a_greedy_token_that_is_not_the_best_one_told_is_refused():
    with pytest.raises(MalformedTopK):
        unlisted(3, -2.0, np.array([4]), np.array([-1.0]))


def source(box: ToyBlackBox, names: ToyNames, per_token: float | None = None, length: int | None = None):
    return UpstreamSource(box, CallLength(length, fixed=True), namer=Namer(names, per_token))


def stream_of(params: SamplingParams, naming: Naming | None):
    return toy_stream(params, session=ToySession(SIZE), policy=Policy(naming=naming))


async def tokens(stream, drafts) -> list[int]:
    return [step.token_id async for step in decode(stream, drafts)]


async def test_a_greedy_answer_with_named_ids_is_that_of_the_whole_vocabulary():
    whole, naming = oracle(SIZE, 16), replace(ALWAYS, most=30)
    names, stream = ToyNames(SIZE, most=30), stream_of(GREEDY, naming)
    assert await tokens(stream, source(ToyBlackBox(SIZE, K), names)) == whole
    assert stream.stats.certified == 16 and stream.stats.named_calls == len(names.calls) > 0
    without = stream_of(GREEDY, None)
    assert await tokens(without, source(ToyBlackBox(SIZE, K), ToyNames(SIZE))) != whole
    assert without.stats.certified < 16 and without.stats.named_calls == 0


async def test_each_call_names_the_position_that_it_asks_about():
    names = ToyNames(SIZE)
    stream = stream_of(GREEDY, ALWAYS)
    said = await tokens(stream, source(ToyBlackBox(SIZE, K), names))
    asked = [prefixes for prefixes, _ in names.calls]
    assert all(len(prefixes) == 1 for prefixes in asked)
    assert all(prefix == [1, 2, 3, *said[: len(prefix) - 3]] for (prefix,) in asked)
    assert len({tuple(prefix) for (prefix,) in asked}) == len(asked)  # none twice


@pytest.mark.parametrize("naming", [ALWAYS, AUTO])
async def test_seeded_and_greedy_text_is_the_same_for_any_draft_length_and_any_arrival(naming):
    for params in (SamplingParams(max_tokens=30, seed=5), GREEDY):
        texts = set()
        for length, burst, draws_at in itertools.product((1, 4, None), (1, 50), (None, 1.0)):
            box = ToyBlackBox(SIZE, K, burst=burst, draws_at=draws_at, rng=np.random.default_rng(burst))
            per_token = None if naming.certify else 0.1
            said = await tokens(stream_of(params, naming), source(box, ToyNames(SIZE), per_token, length))
            texts.add(tuple(said))
        assert len(texts) == 1


async def test_names_in_the_drafts_own_call_spare_calls_and_change_nothing():
    naming = replace(ALWAYS, most=30)
    for params in (GREEDY, SamplingParams(max_tokens=30, seed=5), SamplingParams(max_tokens=30, seed=5, min_p=0.02)):
        said, calls = [], []
        for beside in (False, True):
            box, names = ToyBlackBox(SIZE, K), ToyNames(SIZE, most=30, beside=beside)
            stream = stream_of(params, naming)
            said.append(await tokens(stream, UpstreamSource(box, namer=Namer(names))))
            calls.append(len(names.calls))
            assert stream.stats.named_calls == len(names.calls)
            assert any(draft.names is not None for _, draft in box.calls) is beside
        assert said[0] == said[1] and 0 < calls[1] < calls[0]


async def test_a_draft_names_nothing_where_that_is_not_allowed_or_not_told():
    spent, other = Namer(ToyNames(SIZE, beside=True), 0.0), Namer(ToyNames(SIZE))
    off = Namer(ToyNames(SIZE, beside=True))
    for namer, naming in ((spent, AUTO), (other, ALWAYS), (off, None)):
        stream = stream_of(GREEDY, naming)
        stream.stats.named_steps = 1
        assert await namer.in_first_call(stream) is None


async def test_where_tokens_are_accepted_again_calls_are_long_and_name_nothing():
    box, names = ToyBlackBox(SIZE, K), ToyNames(SIZE, beside=True)
    drafts = UpstreamSource(box, namer=Namer(names))
    for bound, named in ((None, False), (8, True), (32, True), (128, False)):
        drafts.length.bound = bound
        async with drafts.open(stream_of(replace(GREEDY, max_tokens=200), ALWAYS)):
            assert (box.calls[-1][1].names is not None) is named
            assert box.calls[-1][1].max_tokens == (bound or 200)


async def test_within_what_is_allowed_it_does_not_matter_who_told_the_names():
    params, texts = SamplingParams(max_tokens=40, seed=9), set()
    for beside, length in itertools.product((False, True), (1, 4, 8)):
        drafts = source(ToyBlackBox(SIZE, K), ToyNames(SIZE, beside=beside), 0.2, length)
        texts.add(tuple(await tokens(stream_of(params, AUTO), drafts)))
    assert len(texts) == 1


@given(prefixes, st.booleans())
def test_of_what_the_call_told_only_what_is_wanted_is_used(prefix, greedy):
    proposal, numbers = listed_after(prefix), toy_logprobs("black box", prefix, SIZE)
    params = GREEDY if greedy else SamplingParams(max_tokens=16)
    wanted = names_wanted(proposal, goal_of(proposal, prefix, params), ALWAYS)
    told = likely_names(row_after(prefix), ALWAYS)
    assert (np.diff(told) > 0).all() and np.isin(wanted, told).all()  # a guess without a list holds all of them
    proposal = replace(proposal, beside=(told, numbers[told]))
    assert from_beside(replace(proposal, beside=(told[1:], numbers[told[1:]])), told[:1]) is None
    if wanted.size:
        found = from_beside(proposal, wanted)
        assert found is not None and found.named
        assert found.top_ids.tolist() == completed(prefix, ALWAYS, params).top_ids.tolist()


async def test_what_follows_a_replaced_token_comes_with_the_call_that_names_ids():
    naming, calls = replace(ALWAYS, most=30), []
    for ahead in (0, 6):
        box, names = ToyBlackBox(SIZE, K), ToyNames(SIZE, most=30, goes_on=True)
        for first in range(4):
            prompt, session = (first, 2, 3), ToySession(SIZE, strength=0.3)
            stream = toy_stream(
                GREEDY, session=session, prompt=prompt, policy=Policy(naming=replace(naming, ahead=ahead))
            )
            assert await tokens(stream, source(box, names)) == oracle(SIZE, 16, prompt, 0.3)  # exact all the same
            assert stream.stats.certified == 16
        calls.append((len(box.calls), len(names.calls)))
    assert sum(calls[1]) < sum(calls[0]), calls


async def test_what_follows_does_not_depend_on_draft_length_arrival_or_blocks():
    params = replace(GREEDY, max_tokens=40)
    texts = set()
    for length, burst in itertools.product((1, 4, None), (1, 50)):
        names = ToyNames(SIZE, goes_on=True)
        drafts = source(ToyBlackBox(SIZE, K, burst=burst), names, 0.2, length)
        texts.add(tuple(await tokens(stream_of(params, GOING_ON), drafts)))
        assert len(names.calls) <= 1 + 0.2 * 40
    drafts = source(ToyBlackBox(SIZE, K), ToyNames(SIZE, goes_on=True), 0.2)
    blocks = AlwaysBlocks(drafts, ToyBlackBox(SIZE, K))
    texts.add(tuple(await tokens(stream_of(params, GOING_ON), blocks)))
    assert len(texts) == 1 and blocks.made > 3


@dataclass
class AlwaysBlocks:
    """The pair drafts whatever nothing is known of."""

    then: UpstreamSource
    box: ToyBlackBox
    made: int = 0
    observes: bool = False

    @asynccontextmanager
    async def open(self, stream):
        if self.then.ready(stream):
            async with self.then.open(stream) as draft:
                yield draft
            return
        self.made += 1
        yield await verified_block(stream, self.box, await stream.corrector.draft(5))

    def holds(self, stream):
        return False

    async def named(self, stream, run, wanted):
        return await self.then.named(stream, run, wanted)

    def observe(self, stream, proposal, decision):
        pass

    async def aclose(self):
        pass


async def test_no_more_calls_are_made_than_allowed_and_the_answer_goes_on_without():
    names, stream = ToyNames(SIZE), stream_of(replace(GREEDY, max_tokens=60), replace(ALWAYS))
    await tokens(stream, source(ToyBlackBox(SIZE, K), names, 0.05))
    assert stream.emitted == 60
    assert 1 <= len(names.calls) <= 1 + 0.05 * 60


async def test_an_answer_ends_with_an_error_where_named_ids_are_not_told():
    names, stream = ToyNames(SIZE, fault=UpstreamUnreachable("away")), stream_of(GREEDY, ALWAYS)
    said = []
    with pytest.raises(UpstreamUnreachable, match="away"):
        async for step in decode(stream, source(ToyBlackBox(SIZE, K), names)):
            said.append(step.token_id)  # noqa: PERF401
    assert said == oracle(SIZE, 16)[: len(said)]
    assert len(names.calls) == 3


@dataclass
class FailingNames(ToyNames):
    """The first call of all breaks off."""

    async def named(self, prefixes, ids):
        told = await super().named(prefixes, ids)
        if len(self.calls) == 1:
            raise UpstreamUnreachable("broken off")
        return told


async def test_where_calls_are_counted_one_that_fails_does_not_change_a_seeded_answer():
    async def said(names: ToyNames, seed: int) -> list[int]:
        params = SamplingParams(max_tokens=30, seed=seed)
        return await tokens(stream_of(params, AUTO), source(ToyBlackBox(SIZE, K), names, 0.05))

    for seed in range(20):
        assert await said(FailingNames(SIZE), seed) == await said(ToyNames(SIZE), seed)


def test_sampled_tokens_are_draws_from_the_completed_target():
    """At one position, by the accept rule over list and named ids, whatever the black box drew."""
    prefix = next(
        p for p in ([i, 2, 3] for i in range(SIZE)) if tail_share(goal_of(listed_after(p), p).corrected) > 0.3
    )
    params, policy, named, row = (
        SamplingParams(max_tokens=1),
        Policy(naming=ALWAYS),
        completed(prefix),
        row_after(prefix),
    )
    wanted = goal_of(named, prefix, params).probs
    drawn = np.random.default_rng(1).choice(SIZE, 3000, p=np.exp(toy_logprobs("black box", prefix, SIZE)))
    history, noise, seen = History(params, prefix), Noise(None), np.zeros(SIZE)
    for token in drawn.tolist():
        proposal = replace(named, token_id=token)
        seen[decide_from_row(row, proposal, params, policy, history, noise, 1.0)[0].token_id] += 1
    assert p_value(seen, wanted) > ALARM
    plain = goal_of(listed_after(prefix), prefix, params).probs
    assert p_value(seen, np.where(plain > 0, plain, 1e-12)) < ALARM  # without the named ids it is another one


async def test_one_call_asks_for_all_positions_of_the_pairs_own_block():
    session = ToySession(SIZE)
    policy = Policy(naming=replace(ALWAYS, most=6))
    corrector = session.corrector(AnswerSpec([1, 2, 3], replace(GREEDY, max_tokens=8), policy))
    drafted = await corrector.draft(4)
    run = [
        replace(listed_after([1, 2, 3, *drafted[:i]]), token_id=token, local=True) for i, token in enumerate(drafted)
    ]
    with pytest.raises(NamesWanted) as caught:
        await corrector.decide(run, None)
    places = [place for place, _ in caught.value.names]
    goals = [goal_of(p, [1, 2, 3, *drafted[:i]]) for i, p in enumerate(run)]
    assert places == [i for i, goal in enumerate(goals) if not goal.certified] and len(places) > 1

    names = ToyNames(SIZE, most=12)
    stream = toy_stream(replace(GREEDY, max_tokens=8), session=session, policy=policy)
    filled = await Namer(names).named(stream, run, caught.value)
    ((asked, ids),) = names.calls
    fits = [place for place, own in caught.value.names if set(own.tolist()) <= set(ids)]
    assert asked == [[1, 2, 3, *drafted[:place]] for place in fits] and 1 < len(ids) <= 12
    for place, own in caught.value.names:
        assert filled[place].named is (place in fits)
        told = set(filled[place].top_ids.tolist()) - set(run[place].top_ids.tolist())
        assert told == (set(own.tolist()) if place in fits else set())  # whatever was asked beside it
    counted = toy_stream(replace(GREEDY, max_tokens=8), session=session, policy=policy)
    await Namer(names, 1.0).named(counted, run, caught.value)
    assert len(names.calls[-1][0]) == 1  # where calls are counted, each position has its own


async def test_a_source_that_is_there_already_asks_through_the_one_behind_it():
    names, box = ToyNames(SIZE, most=30), ToyBlackBox(SIZE, K)
    async with box.draft([1, 2, 3], DraftParams(0.0, 1)) as draft:
        first = [proposal async for proposal in draft]
    primed = PrimedSource(BlockDraft(0.0, first), source(box, names))
    naming = replace(ALWAYS, most=30)
    assert await tokens(stream_of(GREEDY, naming), primed) == oracle(SIZE, 16)
