"""An explanation shows what the black box said, what was added, and what came out."""

import numpy as np
import pytest

from deltaserve.server.decoding.correction import correct
from deltaserve.server.decoding.explanation import explain, kl_after_before
from deltaserve.server.decoding.protocols import Proposal
from deltaserve.server.decoding.rows import NumpyRow
from tests.support import reference

SIZE = 12


def world(k, strength=1.0):
    rng = np.random.default_rng(4)
    black_box, base, unlearned = (np.array(reference.log_softmax(rng.normal(0, 2, SIZE))) for _ in range(3))
    order = np.argsort(-black_box, kind="stable")[:k]
    row = NumpyRow(base, strength * (unlearned - base))
    return black_box, row, correct(Proposal(int(order[0]), order, black_box[order]), row)


def test_with_a_full_list_the_divergence_is_that_of_the_definition():
    black_box, row, corrected = world(SIZE)
    after = np.array(reference.log_softmax(black_box + row.log_offset))
    assert kl_after_before(corrected) == pytest.approx(float((np.exp(after) * (after - black_box)).sum()))


def test_nothing_was_changed_at_strength_zero():
    _, _, corrected = world(5, strength=0.0)
    assert kl_after_before(corrected) == pytest.approx(0.0, abs=1e-12)


def test_candidates_hold_the_likeliest_of_both_sides_with_the_arithmetic_between_them():
    black_box, _, corrected = world(5)
    found = explain(corrected, 3)
    assert set(np.argsort(-black_box)[:3]) <= set(found.ids.tolist())
    assert (np.diff(found.after[:3]) <= 0).all()
    listed = np.isin(found.ids, corrected.ids)
    np.testing.assert_allclose(found.before[listed], black_box[found.ids[listed]])
    np.testing.assert_allclose(found.after, found.before + found.offset - corrected.log_z, atol=1e-12)
