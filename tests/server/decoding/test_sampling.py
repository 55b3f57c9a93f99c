"""The target distribution equals the reference chain: penalties, bias, temperature, min_p, top_k, top_p."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deltaserve.errors import BadRequest
from deltaserve.server.decoding.correction import correct
from deltaserve.server.decoding.history import History
from deltaserve.server.decoding.params import LEAST_TEMPERATURE, SamplingParams
from deltaserve.server.decoding.protocols import Proposal
from deltaserve.server.decoding.rows import NumpyRow
from deltaserve.server.decoding.sampling import keep_probable, target
from tests.support import reference
from tests.support.amounts import examples

SIZE = 16


def position(seed, k=6, scale=2.0):
    rng = np.random.default_rng(seed)
    black_box, base, unlearned = (np.array(reference.log_softmax(rng.normal(0, scale, SIZE))) for _ in range(3))
    order = np.argsort(-black_box, kind="stable")[:k]
    row = NumpyRow(base, unlearned - base)
    return (
        Proposal(int(order[0]), order, black_box[order]),
        row,
        dict(zip(order.tolist(), black_box[order], strict=True)),
    )


@given(
    seed=st.integers(0, 10_000),
    k=st.integers(1, SIZE),
    temperature=st.sampled_from([0.3, 0.7, 1.0, 1.3]),
    top_p=st.sampled_from([1.0, 0.9, 0.5, 0.01]),
    top_k=st.sampled_from([0, 1, 3, 40]),
    min_p=st.sampled_from([0.0, 0.05, 0.5]),
    repetition=st.sampled_from([1.0, 1.3, 0.8]),
    presence=st.sampled_from([0.0, 1.5, -0.5]),
    frequency=st.sampled_from([0.0, 0.7]),
    bias=st.dictionaries(st.integers(0, SIZE - 1), st.floats(-9, 9), max_size=3),
    output=st.lists(st.integers(0, SIZE - 1), max_size=6),
)
@settings(max_examples=examples(400), deadline=None)
def test_target_equals_the_reference_chain(
    seed, k, temperature, top_p, top_k, min_p, repetition, presence, frequency, bias, output
):
    proposal, row, top = position(seed, k)
    chain = {
        "temperature": temperature, "top_p": top_p, "top_k": top_k, "min_p": min_p, "repetition_penalty": repetition,
        "presence_penalty": presence, "frequency_penalty": frequency, "logit_bias": bias,
    }  # fmt: skip
    params, prompt = SamplingParams(max_tokens=9, **chain), [1, 2]
    history = History(params, prompt)
    for token_id in output:
        history.add(token_id)
    goal = target(correct(proposal, row, extra_ids=history.touched()), params, history)
    floors = [goal.prob_floor(i) for i in range(SIZE)]  # before anything was looked through
    log_q = reference.log_softmax(reference.weights(top, row.log_base, row.log_offset, "impute")[0])
    expected = np.array(reference.target(log_q, prompt=prompt, output=output, **chain))
    probs = [goal.prob(i) for i in range(SIZE)]
    np.testing.assert_allclose(probs, expected, atol=1e-9)
    np.testing.assert_allclose(goal.listed_probs(proposal.top_ids), expected[proposal.top_ids], atol=1e-9)
    np.testing.assert_allclose(goal.probs, expected, atol=1e-9)
    assert (floors <= expected).all()


@given(st.lists(st.sampled_from([0.0, 0.1, 0.2, 0.3, 0.7]), min_size=1, max_size=40), st.integers(1, 40))
def test_ties_at_the_cut_keep_the_lowest_ids(weights, top_k):
    if not any(weights):
        return
    probs = np.array(weights)
    keep_probable(probs, SamplingParams(max_tokens=1, top_k=top_k))
    order = sorted(range(len(weights)), key=lambda i: (-weights[i], i))[:top_k]
    assert np.flatnonzero(probs).tolist() == sorted(i for i in order if weights[i] > 0)


def test_a_nucleus_wider_than_the_first_sort_is_still_exact():
    probs = np.full(5000, 1 / 5000)
    keep_probable(probs, SamplingParams(max_tokens=1, top_p=0.49995))
    assert np.count_nonzero(probs) == 2500
    assert probs[:2500].all()


def test_min_tokens_bans_the_end_until_it_is_met():
    params = SamplingParams(max_tokens=9, min_tokens=1, eos_ids=frozenset({3}), stop_token_ids=frozenset({5}))
    proposal, row, _ = position(1)
    history = History(params, ())
    before = target(correct(proposal, row, extra_ids=history.touched()), params, history)
    assert before.prob(3) == before.prob(5) == 0.0
    history.add(0)
    after = target(correct(proposal, row, extra_ids=history.touched()), params, history)
    assert after.prob(3) > 0.0


def test_a_bias_of_an_unlisted_id_can_win_and_voids_the_certificate():
    params = SamplingParams(max_tokens=9, temperature=0.0, logit_bias={15: 30.0})
    proposal, row, top = position(2)
    assert 15 not in top
    history = History(params, ())
    goal = target(correct(proposal, row, extra_ids=history.touched()), params, history)
    assert goal.best() == 15
    assert not goal.certified


def test_a_repetition_penalty_is_never_certified():
    params = SamplingParams(max_tokens=9, temperature=0.0, repetition_penalty=1.1)
    proposal, row, _ = position(3, k=SIZE)
    assert not target(correct(proposal, row), params, History(params, ())).certified


def test_a_target_without_any_weight_is_an_error_not_a_token():
    row = NumpyRow(np.log([0.5, 0.5]), np.array([-math.inf, -math.inf]))
    corrected = correct(Proposal(0, np.array([0, 1]), np.log([0.5, 0.5])), row)
    for temperature in (0.0, 1.0):
        params = SamplingParams(max_tokens=1, temperature=temperature)
        with np.errstate(divide="ignore"), pytest.raises(ArithmeticError):
            goal = target(corrected, params, History(params, ()))
            _ = goal.probs if temperature else goal.best()


@given(
    seed=st.integers(0, 10_000),
    k=st.integers(1, SIZE),
    temperature=st.sampled_from([0.2, 0.7, 1.0, 1.3, 2.0]),
    tail=st.sampled_from(["impute", "truncate"]),
    scale=st.sampled_from([0.3, 2.0, 8.0]),
)
@settings(max_examples=examples(200), deadline=None)
def test_the_tail_weighs_no_more_than_is_said_without_a_look_at_it(seed, k, temperature, tail, scale):
    proposal, row, _ = position(seed, k, scale)
    with np.errstate(divide="ignore"):
        corrected = correct(replace(proposal, token_id=None), row, tail)
        assert corrected.tail.log_weight(temperature) <= corrected.tail_bound(temperature) + 1e-9


def test_a_token_that_is_surely_likely_enough_is_known_without_a_look_through_the_row():
    class Looked(NumpyRow):
        def tail_scale(self, *_):
            raise AssertionError("looked through the row")

    base = np.array(reference.log_softmax(np.random.default_rng(3).normal(0, 2, SIZE)))
    row = Looked(base, np.full(SIZE, 0.5))  # the same everywhere: nothing is moved
    proposal = Proposal(4, np.array([4, 2]), np.log([0.9, 0.06]))
    params = SamplingParams(max_tokens=9)
    goal = target(correct(proposal, row), params, History(params, ()))
    assert 0.9 * (1 - 0.04 * 0.06) <= goal.prob_floor(4) <= 0.9
    np.testing.assert_allclose(goal.listed_probs(proposal.top_ids, roughly=True), [0.9, 0.06], rtol=0.03)
    with pytest.raises(AssertionError, match="looked"):
        goal.prob(4)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7])
def test_a_rough_look_takes_the_tail_as_it_is_imputed_and_only_where_that_is_what_it_weighs(temperature):
    proposal, row, _ = position(5, k=3)
    still = NumpyRow(row.log_base, np.zeros(SIZE))
    params = SamplingParams(max_tokens=9, temperature=temperature)
    goals = [target(correct(proposal, still), params, History(params, ())) for _ in range(2)]
    rough, exact = (goals[i].listed_probs(proposal.top_ids, roughly=not i) for i in (0, 1))
    np.testing.assert_allclose(rough, exact, rtol=1e-6)  # nothing is moved


EXTREMES = {
    "temperature": [0.0, LEAST_TEMPERATURE, 2.0],
    "top_p": [1.0, 1e-308, 5e-324, 0.5],
    "top_k": [0, 1, 2**31 - 1],
    "min_p": [0.0, 1e-308, 1.0],
    "repetition_penalty": [1.0, 1e-308, 5e-324, 10.0],
    "presence_penalty": [0.0, 2.0, -2.0, 5e-324],
    "frequency_penalty": [0.0, 2.0, -2.0, 1e-308],
    "logit_bias": [{}, {0: 100.0, 15: -100.0}, dict.fromkeys(range(SIZE), -100.0), {3: 1e-308}],
}


@given(
    st.fixed_dictionaries({name: st.sampled_from(values) for name, values in EXTREMES.items()}),
    st.integers(0, 50),
    st.sampled_from([1, 6, SIZE]),
    st.sampled_from(["impute", "truncate"]),
    st.lists(st.integers(0, SIZE - 1), max_size=200),
    st.sampled_from([1.0, 60.0]),
)
@settings(max_examples=examples(400), deadline=None)
def test_no_accepted_value_makes_anything_but_a_distribution(chain, seed, k, tail, output, scale):
    proposal, row, _ = position(seed, k, scale)
    params = SamplingParams(max_tokens=9, **chain)
    history = History(params, [1, 2])
    for token_id in output:
        history.add(token_id)
    with np.errstate(all="ignore"):
        goal = target(correct(proposal, row, tail, history.touched()), params, history)
        assert 0 <= goal.best() < SIZE
        floors = [goal.prob_floor(i) for i in range(SIZE)]
        assert goal.probs.min() >= 0.0 and (floors <= goal.probs).all()
        assert goal.probs.sum() == pytest.approx(1.0)


def test_ids_beyond_those_named_so_far_are_counted_like_any_other():
    params = SamplingParams(max_tokens=9, presence_penalty=1.0, frequency_penalty=0.5, logit_bias={2: 3.0})
    proposal, row, _ = position(4, k=SIZE)
    history = History(params, ())
    for token_id in (14, 2, 14):
        history.add(token_id)
    assert history.touched().tolist() == [2, 14]
    corrected = correct(proposal, row, extra_ids=history.touched())
    shifts = dict(zip(corrected.ids.tolist(), history.shifts(corrected), strict=True))
    assert {i: shift for i, shift in shifts.items() if shift} == {2: 1.5, 14: -2.0}


def test_adding_to_a_forked_history_leaves_the_original_unchanged():
    params = SamplingParams(max_tokens=9, presence_penalty=1.0, repetition_penalty=1.2)
    history = History(params, [1])
    history.add(3)
    ahead = history.fork()
    ahead.add(2)
    ahead.add(3)
    assert (history.touched().tolist(), ahead.touched().tolist()) == ([1, 3], [1, 2, 3])
    assert (history.length, history.counts, ahead.length) == (1, {3: 1}, 3)


def test_an_end_that_is_learned_on_the_way_is_banned_like_the_others():
    params = SamplingParams(max_tokens=9, min_tokens=2, eos_ids=frozenset({1}), logit_bias={3: 1.0})
    proposal, row, _ = position(7)
    history = History(params, ())
    history.now_with(replace(params, eos_ids=frozenset({1, 15})))
    goal = target(correct(proposal, row, extra_ids=history.touched()), params, history)
    assert history.touched().tolist() == [1, 3, 15]
    assert goal.prob(1) == goal.prob(15) == 0.0


class _Watched(dict):
    """A bias that counts how often it is gone through."""

    passes = 0

    def __iter__(self):
        self.passes += 1
        return super().__iter__()

    def keys(self):
        self.passes += 1
        return super().keys()

    def values(self):
        self.passes += 1
        return super().values()

    def items(self):
        self.passes += 1
        return super().items()


def test_a_large_logit_bias_is_read_once_per_stream_not_once_per_token():
    bias = _Watched(dict.fromkeys(range(SIZE), 1.0))
    proposal, row, _ = position(5)
    params = SamplingParams(max_tokens=9, logit_bias=bias, frequency_penalty=0.5)
    history = History(params, ())
    before = bias.passes
    assert before
    for token_id in (1, 2, 3):
        target(correct(proposal, row, extra_ids=history.touched()), params, history).best()
        history.add(token_id)
    assert bias.passes == before


def test_min_tokens_that_bans_every_possible_token_is_a_bad_request():
    proposal, row, _ = position(6, k=2)
    params = SamplingParams(max_tokens=9, min_tokens=3, stop_token_ids=frozenset(proposal.top_ids.tolist()))
    history = History(params, ())
    goal = target(correct(proposal, row, "truncate", history.touched()), params, history)
    with pytest.raises(BadRequest, match="min_tokens"):
        goal.best()
    with pytest.raises(BadRequest, match="min_tokens"):
        _ = goal.probs
