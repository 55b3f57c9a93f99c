"""Do the times between tokens betray a correction? A linear classifier tries, on answers it was not fitted to."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from deltaserve.client.evaluation.data.items import Item
from deltaserve.client.evaluation.leakage_results import Timing
from deltaserve.client.evaluation.metrics.statistics import Floats, estimate_auc
from deltaserve.client.evaluation.target import Target, user

TOKENS: Final = 10  # of each answer: refusals are shorter than answers, and length is no secret
FEWEST: Final = 4
RIDGE: Final = 1e-2


async def stream_times(target: Target, items: Sequence[Item]) -> list[Floats]:
    """Features of each item's streamed answer, one stream at a time; answers of a single piece are left out."""
    arrivals = [await target.arrivals([user(item.question)], TOKENS) for item in items]
    return [features(times) for times in arrivals if len(times) > 1]


def features(times: Sequence[float]) -> Floats:
    """log of: time to the first piece, mean gap, longest gap; shape [3]."""
    gaps = np.maximum(np.diff(times), 1e-6)
    return np.log([max(times[0], 1e-6), float(gaps.mean()), float(gaps.max())])


def separation(corrected: Sequence[Floats], kept: Sequence[Floats]) -> Timing:
    """AUC of Fisher's discriminant, each answer judged by a fit to all others; interval by bootstrap over answers."""
    if min(len(corrected), len(kept)) < FEWEST:
        return Timing(answers=(len(corrected), len(kept)), auc=None, low=None, high=None)
    scores, labels = _left_out(np.array([*corrected, *kept]), np.arange(len(corrected) + len(kept)) < len(corrected))
    auc = estimate_auc(scores[labels].tolist(), scores[~labels].tolist())
    return Timing(answers=(len(corrected), len(kept)), auc=auc.value, low=auc.low, high=auc.high)


def _left_out(rows: Floats, labels: NDArray[np.bool_]) -> tuple[Floats, NDArray[np.bool_]]:
    """The score of each row by a discriminant fitted to the others, shape [n]."""
    scores = np.empty(len(rows))
    for at in range(len(rows)):
        rest = np.arange(len(rows)) != at
        scores[at] = rows[at] @ _direction(rows[rest & labels], rows[rest & ~labels])
    return scores, labels


def _direction(ones: Floats, others: Floats) -> Floats:
    """Fisher's: pooled covariance⁻¹ · difference of means, shape [3], of length 1."""
    centred = np.concatenate([ones - ones.mean(0), others - others.mean(0)])
    covariance = centred.T @ centred / len(centred) + RIDGE * np.eye(ones.shape[1])
    direction: Floats = np.linalg.solve(covariance, ones.mean(0) - others.mean(0))
    return direction / (np.linalg.norm(direction) or 1.0)
