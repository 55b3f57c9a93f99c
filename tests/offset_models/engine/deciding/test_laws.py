"""How often the batch draws which token: with uniform numbers that lie evenly in [0, 1), so that shares are exact.

Speculative sampling's three parts are tested each: a draw of its own, the chance that a draft is accepted, and the draw
after a rejected one.
"""

import numpy as np
from hypothesis import assume, given, settings

from deltaserve.server.decoding.protocols import Floats
from deltaserve.server.decoding.verification import listed_probs
from tests.offset_models.engine.deciding.asking import ScriptedNoise, ask, decided, define, refusal
from tests.offset_models.engine.deciding.positions import SMALL, WIDE, Position, positions, sampled_params

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
    """What the proposed token was drawn from, [size]; None where the core takes it for a guess."""
    if position.proposed is None or position.params.temperature == 0.0:
        return None
    if position.drafted:
        return position.drawn_from(size)
    proposal, probs = position.proposal(size), np.zeros(size)
    if not position.draft_temperature or proposal.token_id not in proposal.top_ids:
        return None
    probs[proposal.top_ids] = listed_probs(proposal, position.draft_temperature)
    return probs


def assert_drawn_by_the_law(position: Position, size: int) -> None:
    assume(refusal(position, size) is None)
    _, goal = define(position, size)
    draft = None if goal.params.temperature == 0.0 else draft_of(position, size)
    middle = np.full(N, 0.5)
    if draft is None:
        np.testing.assert_allclose(shares(position, size, EVENLY, middle), goal.probs, atol=STEP)
        return
    proposed = position.proposal(size).token_id
    assume(draft[proposed] > 0.0)
    chance = min(1.0, float(goal.probs[proposed] / draft[proposed]))
    assert abs(shares(position, size, EVENLY, middle)[proposed] - chance) < STEP
    if chance < 1.0 - 1e-6:
        residual = np.maximum(goal.probs - draft, 0.0)
        expected = residual / residual.sum() if residual.any() else goal.probs  # nothing left: only rounding
        np.testing.assert_allclose(shares(position, size, np.full(N, LAST), EVENLY), expected, atol=STEP)


@given(positions(sampled_params))
@settings(max_examples=40, deadline=None)
def test_tokens_are_drawn_accepted_and_redrawn_as_often_as_the_target_says(position: Position) -> None:
    assert_drawn_by_the_law(position, SMALL)


@given(positions(sampled_params, WIDE))
@settings(max_examples=20, deadline=None)
def test_so_they_are_from_a_wider_vocabulary(position: Position) -> None:
    assert_drawn_by_the_law(position, WIDE)
