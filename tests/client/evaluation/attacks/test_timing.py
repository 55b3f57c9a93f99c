"""Times that tell are found, and times that do not are not."""

import numpy as np
import pytest

from deltaserve.client.evaluation.attacks.timing import features, separation
from deltaserve.client.evaluation.metrics.intervals import wilson


def answers(rng, count, slow):
    return [features(np.cumsum(rng.gamma(9.0, 0.01 * (slow if at == 1 else 1.0), 8))) for at in np.ones(count, int)]


def test_a_pause_that_corrections_make_is_noticed():
    rng = np.random.default_rng(0)
    found = separation(answers(rng, 30, 3.0), answers(rng, 30, 1.0))
    assert found.auc is not None
    assert found.auc > 0.9
    assert found.low > 0.5


def test_equal_times_do_not_separate():
    rng = np.random.default_rng(1)
    drawn = [separation(answers(rng, 20, 1.0), answers(rng, 20, 1.0)) for _ in range(10)]
    assert np.mean([one.auc for one in drawn]) == pytest.approx(0.5, abs=0.12)


def test_too_few_answers_give_no_figure():
    rng = np.random.default_rng(2)
    assert separation(answers(rng, 3, 2.0), answers(rng, 30, 1.0)).auc is None


def test_the_score_interval_is_wilsons():
    found = wilson(1, 10)
    assert (found.low, found.high) == (pytest.approx(0.0179, abs=1e-4), pytest.approx(0.4042, abs=1e-4))
    assert (wilson(0, 0).low, wilson(0, 0).high) == (0.0, 1.0)
    assert wilson(0, 24).low == pytest.approx(0.0)
    assert wilson(24, 24).high == pytest.approx(1.0)
