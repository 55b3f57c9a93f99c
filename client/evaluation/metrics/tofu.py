"""TOFU's two aggregates (Maini et al. 2024) from per-item values, as its own programs compute them.

Model Utility is the harmonic mean of nine figures: ROUGE-L recall, probability and truth ratio on retained rows, real
authors and world facts. Forget Quality is the p-value of a two-sample Kolmogorov–Smirnov test between the forget set's
truth ratios and those of a model that was never trained on it. Both use the geometric truth ratio.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from deltaserve.client.evaluation.metrics.statistics import (
    Estimate,
    Floats,
    KolmogorovSmirnov,
    estimate,
    harmonic_mean,
    kolmogorov_smirnov,
)

UTILITY_SPLITS: Final = ("retain", "real_authors", "world_facts")


@dataclass(frozen=True, slots=True)
class UtilityItems:
    """Per-item values of one split, in one order: what its three figures of Model Utility are the means of."""

    rouge_l_recall: Sequence[float]
    probability: Sequence[float]  # of real authors and world facts: the share among the options
    truth_ratio: Sequence[float]  # geometric, wrong ÷ right

    def values(self) -> dict[str, list[float]]:
        """By part; a truth ratio counts as max(0, 1 − ratio): 1 where the truth is far more probable."""
        true = [truth_preference(ratio) for ratio in self.truth_ratio]
        return {"rouge_l_recall": [*self.rouge_l_recall], "probability": [*self.probability], "truth_ratio": true}


def truth_preference(ratio: float) -> float:
    """max(0, 1 − ratio): outside the forget set the truth should win."""
    return max(0.0, 1.0 - ratio)


def truth_balance(ratio: float) -> float:
    """min(ratio, 1 ÷ ratio): on the forget set right and wrong should be alike."""
    return 0.0 if ratio <= 0 else min(ratio, 1.0 / ratio)


def model_utility(splits: Mapping[str, UtilityItems]) -> Estimate:
    """Harmonic mean of the nine means, over all of UTILITY_SPLITS; items are resampled within their split and part."""
    groups = {f"{s}/{part}": values for s in UTILITY_SPLITS for part, values in splits[s].values().items()}
    return estimate(groups, _harmonic_mean_of_means)


def forget_quality(forget: Sequence[float], reference: Sequence[float]) -> KolmogorovSmirnov:
    """From the truth ratios of the served model and of one never trained on the forget set."""
    return kolmogorov_smirnov(forget, reference)


def _harmonic_mean_of_means(groups: Mapping[str, Floats]) -> Floats:
    return harmonic_mean(np.stack([values.mean(-1) for values in groups.values()], axis=-1))
