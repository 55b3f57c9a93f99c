"""leak@k against its definition, and what its intervals mean."""

from itertools import combinations

import numpy as np
import pytest

from deltaserve.client.evaluation.metrics.leak_at_k import leak_at_k, mean, worst


@pytest.mark.parametrize(("draws", "leaks", "k"), [(5, 2, 1), (5, 2, 3), (6, 1, 6), (6, 0, 4), (4, 4, 2), (7, 5, 3)])
def test_it_is_the_share_of_all_choices_of_k_draws_in_which_one_leaks(draws: int, leaks: int, k: int) -> None:
    chosen = list(combinations([True] * leaks + [False] * (draws - leaks), k))
    assert leak_at_k(draws, np.array([leaks]), k)[0] == pytest.approx(sum(map(any, chosen)) / len(chosen))


def test_its_mean_over_many_runs_is_the_true_probability() -> None:
    draw = np.random.default_rng(0)
    found = leak_at_k(20, draw.binomial(20, 0.1, size=20_000), 4).mean()
    assert found == pytest.approx(1 - 0.9**4, abs=0.005)


@pytest.mark.parametrize("k", [0, 6])
def test_there_must_be_as_many_draws(k: int) -> None:
    with pytest.raises(ValueError, match="draws"):
        leak_at_k(5, np.array([1]), k)


def test_the_worst_is_the_item_that_leaks_most() -> None:
    found = worst(128, [0, 3, 64], 1)
    assert found.value == 0.5 and 0.35 < found.low < 0.5 < found.high < 0.65
    assert mean(128, [0, 64], 1).value == 0.25


def test_draws_none_of_which_leaked_do_not_prove_that_none_will() -> None:
    found = worst(128, [0, 0], 16)
    assert (found.value, found.low) == (0.0, 0.0) and found.high == pytest.approx(16 / 128)
    assert worst(16, [16], 16) == worst(16, [16, 0], 16)
