"""The batch chooses the token that the numpy core chooses: greedy and seeded, whatever is asked for beside it."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deltaserve.server.decoding.params import SamplingParams
from deltaserve.server.decoding.policy import Guard, Policy
from deltaserve.server.decoding.protocols import NO_FLOATS, NO_IDS, Proposal
from tests.offset_models.engine.deciding.asking import (
    ask,
    ask_one,
    ask_row,
    decided,
    define,
    define_row,
    heaviness,
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
    seeded_params,
)
from tests.support.amounts import examples

_ROUNDING = 1e-6  # nats, relative to a weight: two weights so close may be put in another order by float32
EVEN = np.log([0.25] * 4)
NO_OFFSET = np.zeros(4)


def assert_same_token(position: Position, token_id: int, size: int) -> None:
    decision, goal = define(position, size)
    if token_id == decision.token_id:
        return
    with np.errstate(divide="ignore"):
        weights = heaviness(goal) if goal.params.temperature == 0.0 else np.log(goal.probs)
    apart = abs(weights[token_id] - weights[decision.token_id])
    assert 0.0 < apart < _ROUNDING * max(1.0, abs(weights[token_id])), (token_id, decision.token_id)


def assert_same_tokens(asked: list[Position], size: int) -> None:
    for position, outcome in zip(asked, ask(asked, size), strict=True):
        error = refusal(position, size)
        if error is not None:
            assert type(outcome) is error
        else:
            assert_same_token(position, decided(outcome).token_id, size)


@given(st.lists(positions(greedy_params), min_size=6, max_size=6))
@settings(max_examples=examples(40), deadline=None)
def test_a_greedy_token_is_that_of_the_core(asked: list[Position]) -> None:
    assert_same_tokens(asked, SMALL)


@given(st.lists(positions(greedy_params, WIDE), min_size=6, max_size=6))
@settings(max_examples=examples(25), deadline=None)
def test_a_greedy_token_of_a_wider_vocabulary_is_that_of_the_core(asked: list[Position]) -> None:
    assert_same_tokens(asked, WIDE)


@given(st.lists(positions(seeded_params), min_size=6, max_size=6))
@settings(max_examples=examples(40), deadline=None)
def test_a_seeded_token_is_that_of_the_core(asked: list[Position]) -> None:
    assert_same_tokens(asked, SMALL)


@given(st.lists(positions(seeded_params, WIDE), min_size=6, max_size=6))
@settings(max_examples=examples(25), deadline=None)
def test_a_seeded_token_of_a_wider_vocabulary_is_that_of_the_core(asked: list[Position]) -> None:
    assert_same_tokens(asked, WIDE)


@pytest.mark.parametrize("top_p", [1.0, 0.95])
def test_seeded_tokens_are_the_same_at_many_seeds_and_positions(top_p: float) -> None:
    """The noise depends on seed, choice, position and id, which the batch must pass on exactly."""
    asked = [
        Position(seed=i, params=SamplingParams(max_tokens=99, seed=i % 5, top_p=top_p), output=[4] * (i % 9))
        for i in range(200)
    ]
    tokens = [decided(outcome).token_id for outcome in ask(asked, 300)]
    assert tokens == [define(position, 300)[0].token_id for position in asked]
    assert len(set(tokens)) > 50


@pytest.mark.parametrize(("proposed", "chosen"), [(2, 2), (1, 1), (3, 1), (None, 1)])
def test_among_equals_of_the_list_the_proposed_is_preferred_then_the_lowest(proposed: int | None, chosen: int) -> None:
    tied = Proposal(proposed, np.array([2, 1]), np.log([0.4, 0.4]))
    assert decided(ask_row(EVEN, NO_OFFSET, question(tied))).token_id == chosen


@pytest.mark.parametrize("proposed", [0, 3, None])
def test_a_listed_id_is_preferred_to_an_equal_one_of_the_tail(proposed: int | None) -> None:
    """The three ids outside the list share what is left: as much as the listed one has."""
    listed = Proposal(proposed, np.array([3]), np.log([0.25]))
    assert decided(ask_row(EVEN, NO_OFFSET, question(listed))).token_id == 3


@pytest.mark.parametrize("proposed", [2, None])
def test_among_equals_of_the_tail_the_lowest_id_is_chosen(proposed: int | None) -> None:
    listed = Proposal(proposed, np.array([3]), np.log([0.25]))
    assert decided(ask_row(EVEN, np.array([0.0, 9.0, 9.0, 0.0]), question(listed))).token_id == 1


def test_a_list_of_the_whole_vocabulary_leaves_nothing_to_guess() -> None:
    whole = Proposal(0, np.array([0, 1, 2]), np.log([0.7, 0.2, 0.1]))
    decision = decided(ask_row(np.log([0.5, 0.3, 0.2]), np.array([-3.0, 0.0, 2.0]), question(whole)))
    assert (decision.token_id, decision.certified, decision.tail_mass) == (2, True, 0.0)


@pytest.mark.parametrize("policy", [Policy(), Policy(tail="truncate")])
def test_a_blind_position_is_what_the_unlearned_model_says_under_either_tail_policy(policy: Policy) -> None:
    base, unlearned = np.log([0.6, 0.3, 0.1]), np.log([0.2, 0.1, 0.7])
    blind = question(Proposal(None, NO_IDS, NO_FLOATS), policy=policy)
    decision = decided(ask_row(base, unlearned - base, blind))
    assert (decision.token_id, decision.certified, decision.tail_mass) == (2, False, 1.0)


@pytest.mark.parametrize(("policy", "chosen"), [(Policy(tail="truncate"), 1), (Policy(), 3)])
def test_a_truncated_tail_gives_no_token_however_large_its_offset(policy: Policy, chosen: int) -> None:
    listed = Proposal(1, np.array([1, 0]), np.log([0.4, 0.3]))
    asked = question(listed, policy=policy)
    assert decided(ask_row(EVEN, np.array([0.0, 0.0, 0.0, 60.0]), asked)).token_id == chosen


@pytest.mark.parametrize(("ids", "chosen"), [([2, 1], 1), ([2, 3], 0)])
def test_an_id_that_the_tokenizer_does_not_have_is_never_chosen(ids: list[int], chosen: int) -> None:
    """Not where the black box lists it first, and not where the whole list is made of such ids."""
    base = np.array([math.log(0.6), math.log(0.4), -math.inf, -math.inf])
    listed = Proposal(2, np.array(ids), np.log([0.6, 0.3]))
    assert decided(ask_row(base, NO_OFFSET, question(listed))).token_id == chosen
    for seed in range(10):
        seeded = question(listed, SamplingParams(max_tokens=9, seed=seed))
        assert decided(ask_row(base, NO_OFFSET, seeded)).token_id < 2


def test_a_listed_id_of_no_probability_stays_impossible() -> None:
    listed = Proposal(0, np.array([1, 0]), np.array([0.0, -math.inf]))
    assert decided(ask_row(np.log([0.9, 0.05, 0.05]), np.array([60.0, 0.0, 0.0]), question(listed))).token_id == 1


@pytest.mark.parametrize("heavy", [0, 3, 70, 1500])
def test_a_cap_that_bites_far_down_the_tail_is_found_there(heavy: int) -> None:
    """The batch looks at the heaviest ids itself; where more of them meet the cap it must look on."""
    weights = np.random.default_rng(heavy).exponential(size=2048)
    weights[:heavy] *= 1e5
    base, offset = np.log(weights / weights.sum()), np.random.default_rng(1).normal(size=2048)
    cap = 0.6 / min(heavy + 50, 1900)
    listed = Proposal(5, np.array([5, 1500]), np.log([0.4 - cap, cap]))
    for params in (GREEDY, *(SamplingParams(max_tokens=9, seed=seed) for seed in range(10))):
        asked = question(listed, params)
        assert decided(ask_row(base, offset, asked)).token_id == define_row(base, offset, asked)[0].token_id


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_the_ends_are_banned_until_min_tokens_are_there_whether_listed_or_not(seed: int, strength: float) -> None:
    plain = Position(seed=seed, params=GREEDY, strength=strength)
    best = define(plain)[0].token_id
    ends = frozenset({best, 3, 7, 9})
    banning = like(plain, params=SamplingParams(max_tokens=9, temperature=0.0, min_tokens=3, eos_ids=ends))
    assert decided(ask_one(like(banning, output=[1, 1]))).token_id not in ends
    assert decided(ask_one(like(banning, output=[1, 1, 1]))).token_id == best


@pytest.mark.parametrize(("kl_nats", "acts"), [(-1.0, True), (99.0, False)])
def test_a_guard_of_zero_temperature_makes_a_step_greedy_where_it_acts(kl_nats: float, acts: bool) -> None:
    policy = Policy(guard=Guard(kl_nats=kl_nats, temperature=0.0))
    params = SamplingParams(max_tokens=9, temperature=2.0)
    position = Position(seed=5, proposed=None, params=params, policy=policy)
    decisions = [decided(outcome) for outcome in ask([position] * 60)]
    assert {decision.guarded for decision in decisions} == {acts}
    assert (len({decision.token_id for decision in decisions}) == 1) is acts
