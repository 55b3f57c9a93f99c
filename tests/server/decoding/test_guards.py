"""A guard narrows the target where the correction is large, nowhere else, and what is emitted follows that target."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltaserve.server.decoding.correction import correct
from deltaserve.server.decoding.deciding.verification import verify
from deltaserve.server.decoding.decoder import decode
from deltaserve.server.decoding.drafting.adaptive import BlockLimits
from deltaserve.server.decoding.drafting.sources import Drafting
from deltaserve.server.decoding.drafting.upstream import UpstreamSource
from deltaserve.server.decoding.history import History
from deltaserve.server.decoding.noise import Noise
from deltaserve.server.decoding.params import SamplingParams
from deltaserve.server.decoding.policy import Guard, Policy
from deltaserve.server.decoding.protocols import Proposal
from deltaserve.server.decoding.rows import NumpyRow
from deltaserve.server.decoding.sampling import target
from tests.support import reference
from tests.support.amounts import amount
from tests.support.statistics import ALARM, p_value
from tests.support.toy import ToyBlackBox, toy_logprobs, toy_stream

SIZE, K = 14, 5
ALWAYS = -1.0


def world(seed, k=K):
    """A proposal, the pair's row, and the list as the reference takes it."""
    rng = np.random.default_rng(seed)
    black_box, base, unlearned = (np.array(reference.log_softmax(rng.normal(0, 1.5, SIZE))) for _ in range(3))
    order = np.argsort(-black_box, kind="stable")[:k]
    proposal = Proposal(int(order[0]), order, black_box[order])
    return proposal, NumpyRow(base, unlearned - base), dict(zip(order.tolist(), black_box[order].tolist(), strict=True))


def reference_target(row, top, params, guard, output):
    log_q = reference.log_softmax(reference.weights(top, row.log_base, row.log_offset, "impute")[0])
    chain = {
        name: getattr(params, name)
        for name in ("temperature", "top_p", "top_k", "min_p", "presence_penalty", "logit_bias")
    }
    kl = reference.kl_nats(log_q, top, row.log_base, "impute")
    if kl > guard.kl_nats:
        chain["temperature"] = min(chain["temperature"], guard.temperature)
        chain["min_p"] = max(chain["min_p"], guard.min_p)
        if guard.unbiased:
            chain |= {"presence_penalty": 0.0, "logit_bias": {}}
    return np.array(reference.target(log_q, output=output, **chain)), kl


@given(
    seed=st.integers(0, 10_000),
    k=st.integers(1, SIZE),
    kl=st.sampled_from([0.0, 0.5, 1.0, 2.0, 5.0]),
    floor=st.sampled_from([0.0, 0.1, 0.6, 1.0]),
    cap=st.sampled_from([0.3, 0.8, math.inf]),
    unbiased=st.booleans(),
    temperature=st.sampled_from([0.5, 1.0, 2.0]),
    bias=st.dictionaries(st.integers(0, SIZE - 1), st.floats(-9, 9), max_size=3),
)
def test_a_guarded_target_equals_the_reference_chain_with_narrower_parameters(
    seed, k, kl, floor, cap, unbiased, temperature, bias
):
    proposal, row, top = world(seed, k)
    guard = Guard(kl_nats=kl, min_p=floor, temperature=cap, unbiased=unbiased)
    params = SamplingParams(max_tokens=9, temperature=temperature, top_p=0.95, presence_penalty=0.4, logit_bias=bias)
    history = History(params, ())
    history.add(3)
    goal = target(correct(proposal, row, extra_ids=history.touched()), params, history, guard)
    expected, true_kl = reference_target(row, top, params, guard, [3])
    if abs(true_kl - kl) > 1e-6:  # on the bound itself rounding decides
        np.testing.assert_allclose(goal.probs, expected, atol=1e-9)
        np.testing.assert_allclose([goal.prob(i) for i in range(SIZE)], expected, atol=1e-9)


def test_below_the_bound_nothing_changes_and_without_a_guard_no_kl_is_computed(monkeypatch):
    proposal, row, _ = world(4)
    plain = SamplingParams(max_tokens=9)
    never = Guard(kl_nats=50.0, min_p=1.0)
    corrected = correct(proposal, row)
    np.testing.assert_array_equal(
        target(corrected, plain, History(plain, ())).probs, target(corrected, plain, History(plain, ()), never).probs
    )
    monkeypatch.setattr(
        "deltaserve.server.decoding.policy.kl_after_before", lambda _: pytest.fail("a pass that nobody needs")
    )
    target(corrected, plain, History(plain, ()))
    greedy = replace(plain, temperature=0.0)
    target(corrected, greedy, History(greedy, ()), Guard(kl_nats=0.0, min_p=0.5, unbiased=True))


def test_a_cap_of_zero_makes_the_step_greedy_and_only_that_step():
    proposal, row, _ = world(5)
    corrected = correct(proposal, row)
    params = SamplingParams(max_tokens=9)
    goal = target(corrected, params, History(params, ()), Guard(kl_nats=ALWAYS, temperature=0.0))
    best = int(np.argmax(corrected.dense()))
    assert goal.prob(best) == goal.probs[best] == 1.0
    assert goal.probs.sum() == 1.0
    assert {verify(proposal, goal, 1.0, Noise(None), 0) for _ in range(50)} == {best}
    assert verify(proposal, goal, 1.0, Noise(3), 0) == best


def test_an_unbiased_step_keeps_the_ban_of_min_tokens():
    proposal, row, _ = world(6)
    guard = Guard(kl_nats=ALWAYS, unbiased=True)
    params = SamplingParams(max_tokens=9, min_tokens=2, eos_ids=frozenset({2}), logit_bias={2: 50.0, 7: 90.0})
    history = History(params, ())
    goal = target(correct(proposal, row, extra_ids=history.touched()), params, history, guard)
    assert goal.prob(2) == 0.0
    assert goal.prob(7) < 0.9


def test_a_biased_greedy_answer_is_guarded_too():
    proposal, row, _ = world(7)
    plain = SamplingParams(max_tokens=9, temperature=0.0)
    best = target(correct(proposal, row), plain, History(plain, ())).best()
    banning = replace(plain, logit_bias={best: -100.0})
    chosen = {}
    for name, guard in {"banned": None, "guarded": Guard(kl_nats=ALWAYS, unbiased=True)}.items():
        history = History(banning, ())
        chosen[name] = target(correct(proposal, row, extra_ids=history.touched()), banning, history, guard).best()
    assert chosen["banned"] != best == chosen["guarded"]


async def continuations(source_of, guard, draws):
    """Counts of the first two emitted ids, [SIZE, SIZE], over `draws` streams."""
    counts = np.zeros((12, 12))
    for _ in range(draws):
        stream = toy_stream(SAMPLED, policy=Policy(guard=guard))
        ids = [step.token_id async for step in decode(stream, source_of())]
        counts[ids[0], ids[1]] += 1
    return counts


def joint():
    """What two guarded steps of the toy world must give, [12, 12], by the reference alone."""
    expected, prompt = np.zeros((12, 12)), [1, 2, 3]

    def at(prefix):
        black_box = toy_logprobs("black box", prefix, 12)
        base = toy_logprobs("initial", prefix, 12)
        offset = toy_logprobs("unlearned", prefix, 12) - base
        order = np.argsort(-black_box, kind="stable")[:5]
        top = dict(zip(order.tolist(), black_box[order].tolist(), strict=True))
        return reference_target(NumpyRow(base, offset), top, SAMPLED, GUARD, [])[0]

    for first, mass in enumerate(at(prompt)):
        if mass:
            expected[first] = mass * at([*prompt, first])
    return expected


SAMPLED = SamplingParams(max_tokens=2, temperature=1.2)
GUARD = Guard(kl_nats=0.4, min_p=0.15, temperature=0.7)
LONGEST = BlockLimits(positions_per_token=99.0)


def sources(kind):
    box = ToyBlackBox()
    if kind == "the black box's drafts":
        return lambda: UpstreamSource(box)
    return lambda: Drafting(LONGEST).source(box, box)


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["the black box's drafts", "the pair's drafts"])
async def test_guarded_answers_follow_the_guarded_target_whoever_drafts(kind, monkeypatch):
    if kind == "the pair's drafts":
        monkeypatch.setattr(
            "deltaserve.server.decoding.drafting.adaptive.AdaptiveSource.block_length", lambda self, stream: 2
        )
    counts = await continuations(sources(kind), GUARD, amount(600, 1_500))
    assert p_value(counts, joint()) > ALARM


@pytest.mark.anyio
async def test_the_test_detects_answers_without_the_guard():
    loose = Guard(kl_nats=99.0, min_p=1.0)
    counts = await continuations(sources("the black box's drafts"), loose, 500)
    expected = joint()
    outside = counts[expected == 0].sum()
    assert outside > 0 or p_value(counts, expected) < 1e-12


def test_a_guard_has_a_short_name_for_the_fingerprint():
    assert str(Guard(kl_nats=0.5, min_p=0.1, temperature=0.3, unbiased=True)) == "kl0.5-minp0.1-t0.3-nobias"
    assert str(Guard(kl_nats=2, temperature=0.0)) == "kl2-t0"
