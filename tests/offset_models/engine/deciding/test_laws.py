"""How often the batch draws which token: with uniform numbers that lie evenly in [0, 1), so that shares are exact.

Speculative sampling's three parts are tested each: a draw of its own, the chance that a draft is accepted, and the draw
after a rejected one.
"""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from deltaserve.server.decoding.deciding.verification import listed_probs
from deltaserve.server.decoding.params import SamplingParams
from deltaserve.server.decoding.protocols import Floats
from tests.offset_models.engine.deciding.asking import ScriptedNoise, ask, decided, define, refusal
from tests.offset_models.engine.deciding.positions import (
    SMALL,
    WIDE,
    Position,
    filtered_params,
    like,
    positions,
    sampled_params,
)
from tests.support.amounts import examples

N = 50
EVENLY = (np.arange(N) + 0.5) / N
STEP = 1.0 / N + 1e-5  # a share of N even draws is never further from a probability
LAST = 1.0 - 2.0**-53  # the largest uniform number: any draft that may be rejected is


def shares(position: Position, size: int, first: Floats, second: Floats) -> Floats:
    """How often each id is drawn, [size], where the stream's uniform numbers are `first`, then `second` (each [N])."""
    noises = [ScriptedNoise(pair) for pair in zip(first.tolist(), second.tolist(), strict=True)]
    tokens = [decided(outcome).token_id for outcome in ask([position] * N, size, noises)]
    return np.bincount(tokens, minlength=size) / N


def draft_of(position: Position, size: int) -> Floats | None:
    """What the proposed token was drawn from, [size]; None where there is none."""
    if position.proposed is None:
        return None
    if position.drafted:
        return position.drawn_from(size)
    proposal, probs = position.proposal(size), np.zeros(size)
    probs[proposal.top_ids] = listed_probs(proposal, position.draft_temperature or 1.0)
    return probs


def assert_drawn_by_the_law(position: Position, size: int) -> None:
    if refusal(position, size) is not None:
        return
    goal = define(position, size)[1]
    draft, middle = draft_of(position, size), np.full(N, 0.5)
    if draft is None or goal.params.temperature == 0.0:
        np.testing.assert_allclose(shares(position, size, EVENLY, middle), goal.probs, atol=STEP)
        return
    ranked = like(position, listed=size).proposal(size).top_ids.tolist()
    overrated = int(np.argmax(np.where(draft > 0.0, draft - goal.probs, -1.0)))  # the likeliest to be rejected
    position = like(position, proposed=ranked.index(overrated))
    chance = min(1.0, float(goal.probs[overrated] / draft[overrated]))
    assert abs(shares(position, size, EVENLY, middle)[overrated] - chance) < STEP
    if chance < 1.0 - 1e-6:
        residual = np.maximum(goal.probs - draft, 0.0)
        expected = residual / residual.sum() if residual.any() else goal.probs  # nothing left: only rounding
        np.testing.assert_allclose(shares(position, size, np.full(N, LAST), EVENLY), expected, atol=STEP)


ANY = st.one_of(sampled_params, filtered_params)


@given(positions(ANY))
@settings(max_examples=examples(40), deadline=None)
def test_without_a_draft_each_token_is_drawn_as_often_as_the_target_says(position: Position) -> None:
    assert_drawn_by_the_law(like(position, proposed=None, drafted=False), SMALL)


@given(positions(ANY, WIDE))
@settings(max_examples=examples(20), deadline=None)
def test_so_it_is_from_a_wider_vocabulary(position: Position) -> None:
    assert_drawn_by_the_law(like(position, proposed=None, drafted=False), WIDE)


@given(positions(ANY), st.sampled_from([0.7, 1.0]))
@settings(max_examples=examples(40), deadline=None)
def test_a_draft_of_the_black_box_is_accepted_and_redrawn_by_the_rule(position: Position, temperature: float) -> None:
    listed = max(1, position.listed)
    drafted = like(position, listed=listed, proposed=0, drafted=False, draft_temperature=temperature)
    assert_drawn_by_the_law(drafted, SMALL)


@given(positions(ANY))
@settings(max_examples=examples(30), deadline=None)
def test_a_draft_of_the_pair_is_accepted_and_redrawn_by_the_rule(position: Position) -> None:
    assert_drawn_by_the_law(like(position, proposed=0, drafted=True), SMALL)


def test_filters_that_reach_into_the_tail_cut_what_is_listed_too() -> None:
    """The offset lifts ids of the tail over listed ones: what the list alone holds says nothing of the nucleus."""
    for seed in range(12):
        for filters in ({"top_p": 0.6}, {"top_k": 3}, {"top_k": 4, "top_p": 0.8}, {"min_p": 0.2, "top_k": 3}):
            params = SamplingParams(max_tokens=9, **filters)  # type: ignore[arg-type]
            position = Position(seed=seed, listed=5, proposed=None, strength=2.0, params=params)
            assert_drawn_by_the_law(position, SMALL)
