"""Aggregates with bootstrap intervals, the area under a ROC curve, and the two-sample Kolmogorov–Smirnov test."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import ks_2samp, rankdata

Floats = NDArray[np.float64]
Statistic = Callable[[Mapping[str, Floats]], Floats]  # groups of values [..., items] → [...]

RESAMPLES: Final = 1000
AT_ONCE: Final = 100  # resamples held in memory
SEED: Final = 0
CONFIDENCE: Final = 0.95


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value and the ends of its 95 % interval (percentile bootstrap over items)."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class KolmogorovSmirnov:
    """The largest distance between two empirical distribution functions, and its two-sided p-value."""

    statistic: float
    p_value: float


def estimate_mean(values: Sequence[float]) -> Estimate:
    """Of at least one value."""
    return estimate({"": values}, lambda groups: groups[""].mean(-1))


def estimate(groups: Mapping[str, Sequence[float]], statistic: Statistic) -> Estimate:
    """Of any statistic of groups of items; each group is resampled on its own. Deterministic."""
    arrays = {name: np.asarray(values, np.float64) for name, values in groups.items()}
    draw = np.random.default_rng(SEED)
    drawn = [statistic(_resampled(arrays, draw)) for _ in range(RESAMPLES // AT_ONCE)]
    outside = (1 - CONFIDENCE) / 2
    low, high = np.quantile(np.concatenate(drawn), (outside, 1 - outside))
    return Estimate(float(statistic(arrays)), float(low), float(high))


def area_under_curve(members: Floats, others: Floats) -> Floats:
    """Chance that a member's score is above another's, ties counted half: the area under the ROC curve.

    members: [..., m], others: [..., n]; gives [...].
    """
    count, rest = members.shape[-1], others.shape[-1]
    ranks = rankdata(np.concatenate([members, others], axis=-1), axis=-1)
    above = ranks[..., :count].sum(-1) - count * (count + 1) / 2
    return np.asarray(above / (count * rest), np.float64)


def estimate_auc(members: Sequence[float], others: Sequence[float]) -> Estimate:
    """`area_under_curve` with its interval; members and others are resampled apart."""
    return estimate({"in": members, "out": others}, lambda groups: area_under_curve(groups["in"], groups["out"]))


def privacy_leakage(auc: float, reference_auc: float) -> float:
    """Per cent by which 1 − AUC departs from that of a model never trained on the forget set (MUSE, Shi et al. 2024).

    0 is what retraining gives; far below 0 the forgotten still shows as members (MUSE: under-unlearning), far above 0
    it shows as unnaturally unlikely. Raises ValueError when the reference separates the two sets wholly.
    """
    if reference_auc >= 1.0:
        raise ValueError("privacy leakage is not defined against a reference AUC of 1")
    return 100.0 * ((1.0 - auc) - (1.0 - reference_auc)) / (1.0 - reference_auc)


def kolmogorov_smirnov(one: Sequence[float], other: Sequence[float]) -> KolmogorovSmirnov:
    """Two-sample, two-sided, as scipy decides between the exact and the asymptotic p-value."""
    test = ks_2samp(one, other)
    return KolmogorovSmirnov(float(test.statistic), float(test.pvalue))


def harmonic_mean(values: Floats) -> Floats:
    """Over the last axis; 0 where one of the values is."""
    positive = (values > 0).all(-1)
    inverse = 1.0 / np.where(values > 0, values, 1.0)
    return np.where(positive, values.shape[-1] / inverse.sum(-1), 0.0)


def _resampled(arrays: Mapping[str, Floats], draw: np.random.Generator) -> dict[str, Floats]:
    """[AT_ONCE, items] of every group, drawn with replacement."""
    return {name: a[draw.integers(len(a), size=(AT_ONCE, len(a)))] for name, a in arrays.items()}
