"""What a decision tells beside its token is what the core tells: certificate, tail, log q, the guard, agreement."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from deltaserve.server.decoding.deciding.agreement import local_agreement, upstream_agreement
from deltaserve.server.decoding.deciding.blind import blind_target
from deltaserve.server.decoding.deciding.corrector import Decision
from deltaserve.server.decoding.params import SamplingParams
from deltaserve.server.decoding.policy import Guard, Policy
from deltaserve.server.decoding.protocols import Proposal
from deltaserve.server.decoding.sampling import Target
from tests.offset_models.engine.deciding.asking import (
    ask,
    ask_one,
    ask_row,
    decided,
    define,
    question,
    refusal,
)
from tests.offset_models.engine.deciding.positions import (
    GREEDY,
    SMALL,
    WIDE,
    Position,
    greedy_params,
    like,
    positions,
    sampled_params,
    seeded_params,
)
from tests.support.amounts import examples

CLOSE = 1e-4
ANY_PARAMS = st.one_of(greedy_params, seeded_params, sampled_params)


def assert_same_numbers(position: Position, found: Decision, size: int) -> None:
    expected, goal = define(position, size)
    assert found.certified == expected.certified
    assert found.guarded == expected.guarded
    assert found.tail_mass == pytest.approx(expected.tail_mass, abs=1e-9)
    if position.params.top_logprobs is None:
        assert found.logprob is None
    else:  # of the token that this draw gave, which may be another
        assert found.logprob == pytest.approx(goal.corrected.log_q(found.token_id), abs=CLOSE, rel=1e-6)
    assert_same_top(found, expected, goal)
    assert (found.explanation is None) == (expected.explanation is None)


def assert_same_top(found: Decision, expected: Decision, goal: Target) -> None:
    if expected.top is None or found.top is None:
        assert found.top is None
        assert expected.top is None
        return
    ids, log_q = found.top
    np.testing.assert_allclose(log_q, expected.top[1], atol=CLOSE, rtol=1e-6)
    assert np.unique(ids).size == ids.size
    np.testing.assert_allclose(log_q, [goal.corrected.log_q(int(i)) for i in ids], atol=CLOSE, rtol=1e-6)


@pytest.mark.parametrize(("size", "cases"), [(SMALL, 40), (WIDE, 25)])
def test_the_numbers_of_a_decision_are_those_of_the_core(size: int, cases: int) -> None:
    @given(st.lists(positions(ANY_PARAMS, size), min_size=6, max_size=6))
    @settings(max_examples=examples(cases), deadline=None)
    def check(asked: list[Position]) -> None:
        for position, outcome in zip(asked, ask(asked, size), strict=True):
            if refusal(position, size) is None:
                assert_same_numbers(position, decided(outcome), size)

    check()


def test_a_bias_of_an_id_that_the_tokenizer_does_not_have_voids_no_certificate() -> None:
    """A bias of one that it has does."""
    listed = Proposal(0, np.array([0]), np.log([0.9]))
    base = np.array([*np.log([0.5, 0.5]), -np.inf])
    for biased, certified in ((2, True), (1, False)):
        params = SamplingParams(max_tokens=9, temperature=0.0, logit_bias={biased: 30.0})
        decision = decided(ask_row(base, np.zeros(3), question(listed, params)))
        assert (decision.token_id, decision.certified) == (0 if certified else 1, certified)


def test_among_equals_a_listed_id_is_shown_first_then_the_lowest() -> None:
    """The tail is capped at what the last listed id has."""
    listed = Proposal(3, np.array([3, 4]), np.log([0.25, 0.25]))
    params = SamplingParams(max_tokens=9, temperature=0.0, top_logprobs=5)
    asked = question(listed, params)
    ids, log_q = decided(ask_row(np.log([0.25, 0.25, 0.1, 0.2, 0.2]), np.zeros(5), asked)).top or ((), ())
    assert list(ids[:4]) == [3, 4, 0, 1]
    np.testing.assert_allclose(np.exp(log_q), [0.25, 0.25, 0.25 * 5 / 6, 0.25 * 5 / 6, 0.5 / 6], atol=1e-6)


@pytest.mark.parametrize("draft_temperature", [None, 1.0])
@pytest.mark.parametrize("listed", [0, 5])
@pytest.mark.parametrize(
    "params",
    [
        GREEDY,
        SamplingParams(max_tokens=9),
        SamplingParams(max_tokens=9, temperature=0.7, top_p=0.5, presence_penalty=1.0),
        SamplingParams(max_tokens=9, temperature=1.3, seed=4),
    ],
    ids=["greedy", "sampled", "filtered", "seeded"],
)
@pytest.mark.parametrize(
    "policy",
    [Policy(), Policy(tail="truncate"), Policy(guard=Guard(kl_nats=0.1, min_p=0.2))],
    ids=["imputed", "truncated", "guarded"],
)
def test_the_agreement_of_the_black_box_is_the_core_s(
    params: SamplingParams, policy: Policy, listed: int, draft_temperature: float | None
) -> None:
    for seed in range(6):
        position = Position(
            seed=seed, params=params, policy=policy, listed=listed, draft_temperature=draft_temperature, output=[1]
        )
        found = decided(ask_one(like(position, observed=True)))
        expected = upstream_agreement(
            define(position)[1],
            position.proposal(SMALL),
            found.token_id,
            params.seed is not None,
            guessed=draft_temperature is None,
        )
        assert found.agreement is not None
        assert found.agreement.upstream == pytest.approx(expected, abs=CLOSE)
        assert found.agreement.local is None
        assert decided(ask_one(position)).agreement is None


@given(
    seed=st.integers(0, 1000),
    params=st.sampled_from(
        [GREEDY, SamplingParams(max_tokens=9, temperature=0.7), SamplingParams(max_tokens=9, seed=1)]
    ),
    listed=st.sampled_from([0, 1, 5, SMALL]),
    policy=st.sampled_from([Policy(), Policy(tail="truncate"), Policy(guard=Guard(kl_nats=0.1, temperature=0.3))]),
)
@settings(max_examples=examples(50), deadline=None)
def test_the_agreement_of_the_pair_is_the_core_s_where_nothing_filters_or_penalises(
    seed: int, params: SamplingParams, listed: int, policy: Policy
) -> None:
    position = Position(seed=seed, params=params, listed=listed, policy=policy, observed=True, local=True)
    goal, asked = define(position)[1], position.question(SMALL)
    blind = blind_target(goal.corrected.row, params, asked.history, policy.guard)
    found = decided(ask_one(position)).agreement
    assert found is not None
    assert found.local == pytest.approx(local_agreement(goal, blind, params.seed is not None), abs=CLOSE)


@given(positions(ANY_PARAMS))
@settings(max_examples=examples(50), deadline=None)
def test_an_agreement_is_a_probability_whatever_is_asked_for(position: Position) -> None:
    assume(refusal(position) is None)
    found = decided(ask_one(like(position, observed=True, local=True))).agreement
    assert found is not None
    for chance in (found.upstream, found.local):
        assert chance is not None
        assert -1e-9 <= chance <= 1.0 + 1e-9
