"""The fast correction equals a reference that walks the whole vocabulary."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltaserve.errors import OffsetUnavailable
from deltaserve.server.decoding.correction import Corrected, correct, correct_given
from deltaserve.server.decoding.history import History
from deltaserve.server.decoding.params import SamplingParams
from deltaserve.server.decoding.protocols import NO_FLOATS, NO_IDS, Proposal
from deltaserve.server.decoding.ranking import most_probable
from deltaserve.server.decoding.rows import NumpyRow
from deltaserve.server.decoding.sampling import target
from tests.support import reference

GREEDY = SamplingParams(max_tokens=9, temperature=0.0)


class World:
    """One position: a black box, one or more pairs, some padded rows."""

    def __init__(self, black_box, pairs, strengths, k, padded):
        self.size = len(black_box)
        self.padded = padded
        self.black_box = np.array(reference.log_softmax(black_box))
        self.base = self._masked(pairs[0][0])
        self.pairs = [(self._masked(o), self._masked(u)) for o, u in pairs]
        finite = [
            ([0.0 if x == -math.inf else x for x in o], [0.0 if x == -math.inf else x for x in u])
            for o, u in self.pairs
        ]
        self.offset = reference.summed_offset(finite, strengths)
        order = np.argsort(-self.black_box, kind="stable")[:k]
        self.top = {int(i): float(self.black_box[i]) for i in order}
        self.proposal = Proposal(int(order[0]), order.astype(np.int64), self.black_box[order])
        self.row = NumpyRow(np.array(self.base), np.array(self.offset))

    def _masked(self, logits):
        real = reference.log_softmax(logits[: self.size - self.padded])
        return real + [-math.inf] * self.padded


def logits(size):
    ordinary = st.floats(-8, 8)
    extreme = st.sampled_from([-700.0, -60.0, 60.0, 700.0])
    tied = st.sampled_from([0.0, 1.0])
    return st.lists(st.one_of(ordinary, extreme, tied), min_size=size, max_size=size)


@st.composite
def worlds(draw):
    size = draw(st.integers(3, 24))
    padded = draw(st.sampled_from([0, 0, 2])) if size > 4 else 0
    count = draw(st.sampled_from([1, 3]))
    pairs = [(draw(logits(size)), draw(logits(size))) for _ in range(count)]
    strengths = [draw(st.floats(0, 2)) for _ in range(count)]
    return World(draw(logits(size)), pairs, strengths, draw(st.integers(1, size)), padded)


def normalised(weights):
    return np.array(reference.log_softmax(weights))


def assert_same(found, expected):
    assert np.array_equal(found == -math.inf, expected == -math.inf)
    finite = expected > -math.inf
    np.testing.assert_allclose(found[finite], expected[finite], rtol=1e-9, atol=1e-7)


@given(worlds(), st.sampled_from(["impute", "truncate"]))
def test_corrected_distribution_equals_the_full_vocabulary_reference(world, policy):
    expected, tail_mass = reference.weights(world.top, world.base, world.offset, policy)
    corrected = correct(world.proposal, world.row, policy)
    assert corrected.tail_mass == pytest.approx(tail_mass, abs=1e-12)
    if max(expected) == -math.inf:
        return
    with np.errstate(over="ignore"):
        assert_same(corrected.dense() - corrected.log_z, normalised(expected))


@given(worlds(), st.data())
def test_making_unlisted_ids_explicit_leaves_the_distribution_unchanged(world, data):
    extra = data.draw(st.sets(st.integers(0, world.size - 1), max_size=world.size))
    plain = correct(world.proposal, world.row)
    named = correct(world.proposal, world.row, extra_ids=np.array(sorted(extra), np.int64))
    assert_same(named.dense(), plain.dense())
    assert set(named.ids.tolist()) == set(world.top) | extra
    if plain.log_z > -math.inf:  # with no mass at all there is no log q: `target` refuses such a step
        for token_id in range(world.size):
            one, other = plain.log_q(token_id), named.log_q(token_id)
            assert one == other or one == pytest.approx(other, abs=1e-7)
        goals = [target(c, GREEDY, History(GREEDY, ())) for c in (plain, named)]
        assert goals[0].certified == goals[1].certified
        assert goals[0].best() == goals[1].best() or goals[0].corrected.dense()[goals[0].best()] == pytest.approx(
            goals[1].corrected.dense()[goals[1].best()]
        )


@given(worlds())
def test_greedy_choice_is_the_reference_argmax(world):
    expected, _ = reference.weights(world.top, world.base, world.offset, "impute")
    if max(expected) == -math.inf:
        return
    found = target(correct(world.proposal, world.row), GREEDY, History(GREEDY, ())).best()
    assert expected[found] == pytest.approx(max(expected), abs=1e-9)


@given(worlds())
def test_certificate_equals_its_formula_and_a_certified_step_is_the_full_vocabulary_argmax(world):
    corrected = correct(world.proposal, world.row)
    goal = target(corrected, GREEDY, History(GREEDY, ()))
    assert goal.certified == reference.certified(world.top, world.base, world.offset)
    if goal.certified:
        whole = [
            m + d if b > -math.inf else -math.inf
            for m, d, b in zip(world.black_box, world.offset, world.base, strict=True)
        ]
        assert whole[goal.best(world.proposal.token_id)] == pytest.approx(max(whole), abs=1e-9)


@given(worlds())
def test_strength_zero_keeps_the_black_box_choice(world):
    row = NumpyRow(np.array(world.base), np.zeros(world.size))
    if world.base[world.proposal.token_id] == -math.inf:
        return
    goal = target(correct(world.proposal, row), GREEDY, History(GREEDY, ()))
    assert goal.best(world.proposal.token_id) == world.proposal.token_id


@given(worlds())
def test_single_precision_rows_agree_with_double_precision(world):
    if min(x for x in world.base if x > -math.inf) < -80 or max(map(abs, world.offset)) > 80:
        return
    single = NumpyRow(np.array(world.base, np.float32), np.array(world.offset, np.float32))
    one, other = correct(world.proposal, world.row), correct(world.proposal, single)
    if one.tail_mass < 1e-9 or one.log_scale > 12:
        return
    np.testing.assert_allclose(np.exp(one.dense() - one.log_z), np.exp(other.dense() - other.log_z), atol=2e-4)


@given(worlds(), st.integers(1, 30))
def test_most_probable_ids_are_those_of_the_reference(world, n):
    expected, _ = reference.weights(world.top, world.base, world.offset, "impute")
    if max(expected) == -math.inf:
        return
    log_q = normalised(expected)
    ids, values = most_probable(correct(world.proposal, world.row), n)
    np.testing.assert_allclose(values, np.sort(log_q[log_q > -math.inf])[::-1][:n], atol=1e-7)
    np.testing.assert_allclose(values, log_q[ids], atol=1e-7)


def test_a_swallowed_position_without_a_list_is_drawn_from_the_pair_alone():
    base, unlearned = (np.array(reference.log_softmax(x)) for x in ([1.0, 0.0, 2.0], [0.0, 3.0, 0.0]))
    corrected = correct(Proposal(None, NO_IDS, NO_FLOATS), NumpyRow(base, unlearned - base))
    assert corrected.tail_mass == 1.0
    np.testing.assert_allclose(corrected.dense() - corrected.log_z, unlearned, atol=1e-12)
    assert not target(corrected, GREEDY, History(GREEDY, ())).certified


@given(worlds(), st.data())
def test_a_certified_step_is_the_full_vocabulary_argmax_whatever_the_list_does_not_name(world, data):
    unnamed = data.draw(st.sets(st.integers(0, world.proposal.top_ids.size - 1), min_size=1))
    kept = [at for at in range(world.proposal.top_ids.size) if at not in unnamed]
    told = world.proposal.top_logprobs
    cap = float(max(told[-1], *(told[at] for at in unnamed)))
    proposal = replace(
        world.proposal, top_ids=world.proposal.top_ids[kept], top_logprobs=told[kept], log_cap=cap, token_id=None
    )
    goal = target(correct(proposal, world.row), GREEDY, History(GREEDY, ()))
    if goal.certified:
        whole = np.where(np.array(world.base) > -math.inf, world.black_box + world.offset, -math.inf)
        assert whole[goal.best()] == pytest.approx(whole.max(), abs=1e-9)


def test_what_a_list_does_not_name_is_in_the_tail_and_may_be_more_than_the_last_that_it_names():
    base = np.log([0.05, 0.05, 0.85, 0.05])
    proposal = Proposal(None, np.array([0, 1]), np.log([0.3, 0.1]), log_cap=math.log(0.5))
    for policy in ("impute", "truncate"):  # there is more than a tail out there, which no policy cuts off
        corrected = correct(proposal, NumpyRow(base, np.zeros(4)), policy)
        np.testing.assert_allclose(np.exp(corrected.dense()), [0.3, 0.1, 0.5, 0.1])
        goal = target(corrected, GREEDY, History(GREEDY, ()))
        assert goal.best() == 2 and not goal.certified


def test_the_cap_keeps_unlisted_ids_below_the_smallest_listed_one_and_lifts_the_others():
    base = np.log([0.05, 0.05, 0.81, 0.06, 0.03])
    proposal = Proposal(0, np.array([0, 1]), np.log([0.72, 0.1]))
    corrected = correct(proposal, NumpyRow(base, np.zeros(5)))
    np.testing.assert_allclose(np.exp(corrected.dense()), [0.72, 0.1, 0.1, 0.08 * 2 / 3, 0.08 / 3])
    assert corrected.log_z == pytest.approx(0.0, abs=1e-12)


def test_a_list_that_leaves_out_more_than_the_others_could_have_is_a_distribution_all_the_same():
    proposal = Proposal(0, np.array([0, 1]), np.log([0.6, 0.1]))
    corrected = correct(proposal, NumpyRow(np.log([0.05, 0.05, 0.9]), np.zeros(3)))
    np.testing.assert_allclose(np.exp(corrected.dense() - corrected.log_z), np.array([0.6, 0.1, 0.1]) / 0.8)


@given(worlds(), st.sampled_from([0, 1]))
def test_strength_zero_gives_the_black_box_number_of_every_listed_token(world, beside):
    """With a token beside the list too, where one is given and not drawn."""
    if world.padded:
        return
    row = NumpyRow(np.array(world.base), np.zeros(world.size))
    given = int(np.argsort(-world.black_box, kind="stable")[min(len(world.top) - 1 + beside, world.size - 1)])
    told = replace(world.proposal, token_id=given, token_logprob=float(world.black_box[given]))
    for corrected in (correct(world.proposal, row), correct_given(told, row)):
        assert corrected.log_z == pytest.approx(0.0, abs=1e-9)
        for token_id, logprob in world.top.items():
            assert corrected.log_q(token_id) == pytest.approx(logprob, abs=1e-9)
    assert correct_given(told, row).log_q(given) == pytest.approx(told.token_logprob, abs=1e-9)


def test_a_listed_id_comes_before_capped_ones_that_weigh_the_same():
    base = np.log([0.4, 0.05, 0.25, 0.2, 0.1])
    listed = Proposal(3, np.array([3, 4]), np.log([0.5, 0.2]))
    ids, _ = most_probable(correct(listed, NumpyRow(base, np.zeros(5))), 3)
    assert ids.tolist() == [3, 4, 0]


def test_a_row_that_is_not_a_distribution_corrects_nothing():
    for base, offset in (
        ([0.0, math.nan], [0.0, 0.0]),
        ([-1.0, -1.0], [math.nan, 0.0]),
        ([-1.0, -1.0], [math.inf, 0.0]),
    ):
        with pytest.raises(OffsetUnavailable):
            NumpyRow(np.array(base), np.array(offset))


def test_correcting_does_not_compute_the_tail():
    class HeadOnly:
        vocab_size = 4
        max_offset = 0.0

        def base(self, ids):
            return np.full(ids.size, -2.0)

        def offset(self, ids):
            return np.zeros(ids.size)

        def tail_scale(self, listed, mass, log_cap):
            raise AssertionError("nobody asked for the tail")

        def tail(self, explicit, log_scale, log_cap):
            raise AssertionError("nobody asked for the tail")

    assert isinstance(correct(Proposal(0, np.array([0]), np.array([-0.5])), HeadOnly()), Corrected)
