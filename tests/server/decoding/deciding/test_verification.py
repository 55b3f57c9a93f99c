"""Emitted tokens are exact draws from the target, whatever the black box proposes; a lying draft is noticed."""

import numpy as np
import pytest

from deltaserve.server.decoding.correction import correct
from deltaserve.server.decoding.deciding.verification import verify
from deltaserve.server.decoding.history import History
from deltaserve.server.decoding.noise import Noise
from deltaserve.server.decoding.params import SamplingParams
from deltaserve.server.decoding.protocols import NO_FLOATS, NO_IDS, Proposal
from deltaserve.server.decoding.rows import NumpyRow
from deltaserve.server.decoding.sampling import Target, target
from tests.support import reference
from tests.support.amounts import amount
from tests.support.statistics import ALARM, p_value

SIZE, K, DRAWS, FEW = 12, 5, amount(12_000, 40_000), amount(6_000, 15_000)


def world(seed=3):
    rng = np.random.default_rng(seed)
    return [np.array(reference.log_softmax(rng.normal(0, 1.2, SIZE))) for _ in range(3)]


def emitted(params, *, draft_temperature, really=None, rows=None, draws=DRAWS, k=K, tail="impute"):
    """Counts of emitted ids, and the reference target they are drawn from. `really`: what the black box draws at."""
    black_box, base, unlearned = world()
    row = NumpyRow(base, unlearned - base) if rows is None else rows
    order = np.argsort(-black_box, kind="stable")[:k]
    output = [int(order[0]), int(order[0]), int(order[2]), 11]
    history = History(params, [int(order[1])])
    for token_id in output:
        history.add(token_id)
    proposal = Proposal(None, order, black_box[order])
    goal = target(correct(proposal, row, tail, history.touched()), params, history)
    rng, noise = np.random.default_rng(11), Noise(None)
    probs = np.exp(black_box / (really or draft_temperature or 1.0))
    drawn = rng.choice(SIZE, size=draws, p=probs / probs.sum())
    counts = np.zeros(SIZE)
    for token_id, times in zip(*np.unique(drawn, return_counts=True), strict=True):
        proposed = Proposal(int(token_id), order, black_box[order])
        for _ in range(times):
            counts[verify(proposed, goal, draft_temperature, noise, 0)] += 1
    top = dict(zip(order.tolist(), black_box[order].tolist(), strict=True))
    log_q = reference.log_softmax(reference.weights(top, row.log_base, row.log_offset, tail)[0])
    names = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty")
    chain = {name: getattr(params, name) for name in names}
    return counts, np.array(reference.target(log_q, prompt=[int(order[1])], output=output, **chain))


FILTERS = {
    "plain": {},
    "top_p": {"top_p": 0.8},
    "min_p": {"min_p": 0.08},
    "penalties": {"repetition_penalty": 1.2, "presence_penalty": 0.5, "frequency_penalty": 0.3},
}


# Every temperature and every filter once; that the target of any two is the right one, test_sampling.py shows.
TOGETHER = [
    pytest.param(temperature, name, marks=() if name == "plain" or temperature == 0.7 else pytest.mark.slow)
    for temperature in (1.0, 0.7, 1.3)
    for name in FILTERS
]


@pytest.mark.parametrize(("temperature", "filters"), TOGETHER)
def test_emitted_tokens_follow_the_target(temperature, filters):
    params = SamplingParams(max_tokens=9, temperature=temperature, **FILTERS[filters])
    assert p_value(*emitted(params, draft_temperature=temperature)) > ALARM


def test_all_filters_together_are_exact():
    filters = {"top_p": 0.9, "min_p": 0.02, "top_k": 9, "repetition_penalty": 1.1, "presence_penalty": 0.2}
    params = SamplingParams(max_tokens=9, temperature=0.8, **filters)
    assert p_value(*emitted(params, draft_temperature=0.8, draws=FEW)) > ALARM


@pytest.mark.parametrize("temperature", [0.7, 1.0, 1.3])
def test_what_is_proven_without_a_look_through_the_row_is_what_a_look_would_say(temperature, monkeypatch):
    def counts():
        numbers = np.random.default_rng(5)
        monkeypatch.setattr(Noise, "uniform", lambda _: float(numbers.random()))
        params = SamplingParams(max_tokens=9, temperature=temperature)
        return emitted(params, draft_temperature=temperature, draws=2000)[0].tolist()

    proven = counts()
    monkeypatch.setattr(Target, "prob_floor", lambda *_: 0.0)
    assert proven == counts()


@pytest.mark.parametrize("draft_temperature", [0.5, 1.0, 2.0, None])
def test_a_draft_of_another_known_temperature_is_corrected_too(draft_temperature):
    params = SamplingParams(max_tokens=9, temperature=0.7)
    assert p_value(*emitted(params, draft_temperature=draft_temperature, draws=FEW)) > ALARM


def test_truncated_tails_are_drawn_exactly_too():
    params = SamplingParams(max_tokens=9)
    assert p_value(*emitted(params, draft_temperature=1.0, draws=FEW, tail="truncate")) > ALARM


def test_a_draft_that_lies_about_its_temperature_is_detected():
    params = SamplingParams(max_tokens=9, temperature=1.0)
    assert p_value(*emitted(params, draft_temperature=1.0, really=0.5, draws=FEW)) < 1e-12


def test_a_full_list_makes_the_draws_those_of_the_whole_vocabulary():
    params = SamplingParams(max_tokens=9)
    counts, expected = emitted(params, draft_temperature=1.0, k=SIZE, draws=FEW)
    black_box, base, unlearned = world()
    np.testing.assert_allclose(expected, np.exp(reference.log_softmax(black_box + unlearned - base)), atol=1e-12)
    assert p_value(counts, expected) > ALARM


def test_seeded_draws_follow_the_target_over_positions():
    black_box, base, unlearned = world()
    order = np.argsort(-black_box, kind="stable")[:K]
    params = SamplingParams(max_tokens=9, seed=5)
    goal = target(
        correct(Proposal(0, order, black_box[order]), NumpyRow(base, unlearned - base)), params, History(params, ())
    )
    noise = Noise(5)
    drawn = [verify(Proposal(3, order, black_box[order]), goal, 1.0, noise, at) for at in range(amount(6_000, 20_000))]
    assert p_value(np.bincount(drawn, minlength=SIZE).astype(float), goal.probs) > ALARM


def test_seeded_noise_depends_on_seed_choice_position_and_id_alone():
    assert np.array_equal(Noise(4).gumbel(9, 50), Noise(4).gumbel(9, 100)[:50])
    for other in (Noise(5).gumbel(9, 50), Noise(4, index=1).gumbel(9, 50), Noise(4).gumbel(10, 50)):
        assert not np.array_equal(other, Noise(4).gumbel(9, 50))


def test_greedy_accepts_the_proposal_among_equals_and_replaces_it_otherwise():
    params = SamplingParams(max_tokens=1, temperature=0.0)
    row = NumpyRow(np.log([0.25] * 4), np.zeros(4))
    tied = Proposal(2, np.array([1, 2]), np.log([0.4, 0.4]))
    goal = target(correct(tied, row), params, History(params, ()))
    assert verify(tied, goal, 0.0, Noise(None), 0) == 2
    other = Proposal(3, np.array([1, 2]), np.log([0.4, 0.4]))
    assert verify(other, goal, 0.0, Noise(None), 0) == 1


def test_a_swallowed_position_is_drawn_from_the_target():
    params = SamplingParams(max_tokens=1)
    _, base, unlearned = world()
    blind = Proposal(None, NO_IDS, NO_FLOATS)
    goal = target(correct(blind, NumpyRow(base, unlearned - base)), params, History(params, ()))
    noise = Noise(None)
    counts = np.bincount([verify(blind, goal, 1.0, noise, 0) for _ in range(DRAWS)], minlength=SIZE)
    assert p_value(counts.astype(float), np.exp(unlearned)) > ALARM
