"""In one batch every question is decided as it would be alone, and what one cannot answer is its own error."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deltaserve.errors import BadRequest, OffsetUnavailable
from deltaserve.offset_models.engine.deciding.decide import decide, expected, lifted
from deltaserve.offset_models.engine.deciding.resolving import Outcome
from deltaserve.server.decoding.deciding.blind import UNKNOWN, blind_target, expected_token
from deltaserve.server.decoding.deciding.naming import likely_names
from deltaserve.server.decoding.params import SamplingParams
from deltaserve.server.decoding.policy import Guard, Naming, Policy
from deltaserve.server.decoding.protocols import Proposal
from deltaserve.server.decoding.rows import NumpyRow
from tests.offset_models.engine.deciding.asking import ScriptedNoise, ask, ask_row, decided, question
from tests.offset_models.engine.deciding.positions import (
    GREEDY,
    SMALL,
    Position,
    greedy_params,
    like,
    positions,
    sampled_params,
    seeded_params,
)
from tests.support.amounts import examples

ANY_PARAMS = st.one_of(greedy_params, seeded_params, sampled_params)


def assert_same_outcome(one: Outcome, other: Outcome) -> None:
    assert type(one) is type(other)
    if isinstance(one, Exception):
        return
    first, second = decided(one), decided(other)
    assert (first.token_id, first.certified, first.guarded) == (second.token_id, second.certified, second.guarded)
    assert first.tail_mass == pytest.approx(second.tail_mass, abs=1e-12)
    assert first.logprob == pytest.approx(second.logprob, abs=1e-6)
    if first.top is not None and second.top is not None:
        np.testing.assert_array_equal(first.top[0], second.top[0])
    if first.agreement is not None and second.agreement is not None:
        assert first.agreement.upstream == pytest.approx(second.agreement.upstream, abs=1e-6)
        assert first.agreement.local == pytest.approx(second.agreement.local, abs=1e-6)


def noises(count: int) -> list[ScriptedNoise]:
    return [ScriptedNoise([(0.37 * i) % 1, (0.71 * i) % 1]) for i in range(1, count + 1)]


def own(positions: Sequence[Position]) -> list[ScriptedNoise | None]:
    """Known numbers for the unseeded."""
    return [
        noise if position.params.seed is None else None
        for position, noise in zip(positions, noises(len(positions)), strict=True)
    ]


@given(st.lists(positions(ANY_PARAMS), min_size=10, max_size=10))
@settings(max_examples=examples(20), deadline=None)
def test_a_question_in_a_batch_of_all_kinds_is_decided_as_it_is_alone(asked: list[Position]) -> None:
    together = ask(asked, SMALL, own(asked))
    for position, outcome, noise in zip(asked, together, own(asked), strict=True):
        assert_same_outcome(outcome, ask([position], SMALL, [noise])[0])


SPOILED = {
    "NaN in the base": (0, math.nan),
    "NaN in the offset": (1, math.nan),
    "an infinite offset": (1, math.inf),
    "a base that is no distribution": (0, 0.5),
}


@pytest.mark.parametrize(("part", "value"), SPOILED.values(), ids=SPOILED)
def test_a_row_that_is_not_finite_is_an_error_of_its_own_and_leaves_the_others_as_they_are(
    part: int, value: float
) -> None:
    kinds = [
        Position(seed=1, params=GREEDY),
        Position(seed=2, params=replace(GREEDY, logit_bias={3: 1.0}, top_logprobs=4)),
        Position(seed=3),
        Position(seed=4, params=SamplingParams(max_tokens=9, top_p=0.9, repetition_penalty=1.2)),
        Position(seed=5, params=SamplingParams(max_tokens=9, seed=6)),
        Position(seed=6, listed=0, observed=True, local=True),
        Position(seed=7, policy=Policy(guard=Guard(kl_nats=0.0, min_p=0.1))),
        Position(seed=8, params=GREEDY, policy=Policy(explain=2)),
        Position(seed=9, drafted=True),
    ]
    asked = [position for position in kinds for _ in range(2)]  # the second one of each gets the spoiled row
    rows = [torch.from_numpy(np.stack(values)) for values in zip(*(p.row(SMALL) for p in asked), strict=True)]
    whole = ask(asked, SMALL, own(asked))
    rows[part][1::2, 5] = value
    outcomes = decide(*rows, [p.question(SMALL, noise) for p, noise in zip(asked, own(asked), strict=True)])
    assert {type(outcome) for outcome in outcomes[1::2]} == {OffsetUnavailable}
    for outcome, other in zip(outcomes[::2], whole[::2], strict=True):
        assert_same_outcome(outcome, other)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("seed", [None, 3])
def test_a_ban_that_leaves_no_token_is_a_bad_request_of_that_question_alone(
    temperature: float, seed: int | None
) -> None:
    plain = Position(seed=1, policy=Policy(tail="truncate"), params=GREEDY)
    listed = frozenset(plain.proposal(SMALL).top_ids.tolist())
    params = SamplingParams(max_tokens=9, temperature=temperature, seed=seed, min_tokens=3, stop_token_ids=listed)
    outcomes = ask([plain, like(plain, params=params), plain])
    assert isinstance(outcomes[1], BadRequest)
    assert outcomes[1].param == "min_tokens"
    assert [decided(outcomes[i]).token_id in listed for i in (0, 2)] == [True, True]


@pytest.mark.parametrize("params", [GREEDY, SamplingParams(max_tokens=9), SamplingParams(max_tokens=9, seed=1)])
def test_a_row_without_any_weight_is_an_error_not_a_token(params: SamplingParams) -> None:
    whole = Proposal(0, np.array([0, 1]), np.log([0.5, 0.5]))
    outcome = ask_row(np.log([0.5, 0.5]), np.array([-math.inf, -math.inf]), question(whole, params))
    assert isinstance(outcome, ArithmeticError)


def test_no_questions_have_no_answers() -> None:
    assert decide(torch.zeros(0, SMALL), torch.zeros(0, SMALL), []) == []


def expected_alone(position: Position) -> int | None:
    row, asked = NumpyRow(*position.row(SMALL)), position.question(SMALL)
    return expected_token(row, blind_target(row, asked.params, asked.history, asked.policy.guard))


@given(st.lists(positions(ANY_PARAMS), min_size=8, max_size=8))
@settings(max_examples=15, deadline=None)
def test_the_token_that_the_pair_expects_is_that_of_the_core(asked: list[Position]) -> None:
    rows = [torch.from_numpy(np.stack(values)) for values in zip(*(p.row(SMALL) for p in asked), strict=True)]
    found = expected(*rows, [replace(p.question(SMALL), proposal=UNKNOWN) for p in asked])
    for token_id, position in zip(found, asked, strict=True):
        assert token_id == expected_alone(position) or nearly_tied(position)


def nearly_tied(position: Position) -> bool:
    """Whether the pair's two best tokens are as good as each other within what float32 can tell: either is a guess."""
    base, offset = (values.astype(np.float64) for values in position.row(SMALL))
    second, best = np.sort(base + offset)[-2:]
    return bool(best - second <= 8 * np.finfo(np.float32).eps * np.abs(offset).max())


@pytest.mark.parametrize(("part", "value"), SPOILED.values(), ids=SPOILED)
@pytest.mark.parametrize("params", [GREEDY, replace(GREEDY, logit_bias={0: 1.0})])
def test_a_row_that_is_not_finite_lets_nobody_expect_a_token_and_hurts_nobody_else(
    params: SamplingParams, part: int, value: float
) -> None:
    strong = next(p for p in (Position(seed=i, strength=2.0, params=params) for i in range(99)) if expected_alone(p))
    rows = [torch.from_numpy(np.stack([values] * 3)) for values in strong.row(SMALL)]
    rows[part][1, 5] = value
    found = expected(*rows, [strong.question(SMALL)] * 3)
    assert found == [expected_alone(strong), None, expected_alone(strong)]


@given(st.lists(positions(ANY_PARAMS), min_size=4, max_size=4))
@settings(max_examples=examples(10), deadline=None)
def test_the_ids_that_the_pair_lifts_most_are_those_of_the_core(asked: list[Position]) -> None:
    naming = Naming(tail=0.1, most=5)
    named = [replace(p.question(SMALL), proposal=UNKNOWN, policy=Policy(naming=naming)) for p in asked]
    rows = [torch.from_numpy(np.stack(values)) for values in zip(*(p.row(SMALL) for p in asked), strict=True)]
    for ids, position in zip(lifted(*rows, named), asked, strict=True):
        row = NumpyRow(*position.row(SMALL))
        least = row.offset(likely_names(row, naming)).min()  # of equal offsets any may be named
        assert (np.diff(ids) > 0).all() and ids.size == likely_names(row, naming).size
        assert (row.offset(ids) >= least).all()
    rows[1][2, 5] = math.nan
    assert [bool(ids.size) for ids in lifted(*rows, named)] == [True, True, False, True]
    assert not any(ids.size for ids in lifted(*rows, [replace(one, policy=Policy()) for one in named]))
