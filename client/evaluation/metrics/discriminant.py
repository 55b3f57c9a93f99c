"""Two groups told apart by a few features each: Fisher's discriminant, every row judged by a fit to all others."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from deltaserve.client.evaluation.metrics.statistics import Estimate, Floats, estimate_auc

FEWEST: Final = 4  # of either group
RIDGE: Final = 1e-2


def separation(ones: Sequence[Floats], others: Sequence[Floats]) -> Estimate | None:
    """AUC of the discriminant, interval by bootstrap over rows (each [features]); None where they are too few."""
    if min(len(ones), len(others)) < FEWEST:
        return None
    rows, labels = np.array([*ones, *others]), np.arange(len(ones) + len(others)) < len(ones)
    scores = _left_out(rows, labels)
    return estimate_auc(scores[labels].tolist(), scores[~labels].tolist())


def standardised(groups: Sequence[Sequence[Floats]]) -> list[list[Floats]]:
    """Features of all groups on one scale: mean 0, deviation 1 over all rows. Of no group's own."""
    rows = np.array([row for group in groups for row in group])
    if not len(rows):
        return [[] for _ in groups]
    spread = rows.std(0)
    scale = np.where(spread > 0, spread, 1.0)
    return [[(row - rows.mean(0)) / scale for row in group] for group in groups]


def _left_out(rows: Floats, labels: NDArray[np.bool_]) -> Floats:
    """The score of each row by a discriminant fitted to the others, shape [n]."""
    scores = np.empty(len(rows))
    for at in range(len(rows)):
        rest = np.arange(len(rows)) != at
        scores[at] = rows[at] @ _direction(rows[rest & labels], rows[rest & ~labels])
    return scores


def _direction(ones: Floats, others: Floats) -> Floats:
    """Fisher's: pooled covariance⁻¹ · difference of means, shape [features], of length 1."""
    centred = np.concatenate([ones - ones.mean(0), others - others.mean(0)])
    covariance = centred.T @ centred / len(centred) + RIDGE * np.eye(ones.shape[1])
    direction: Floats = np.linalg.solve(covariance, ones.mean(0) - others.mean(0))
    return direction / (np.linalg.norm(direction) or 1.0)
