"""Do the times between tokens betray a correction? A linear classifier tries, on answers it was not fitted to."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from deltaserve.client.evaluation.data.items import Item
from deltaserve.client.evaluation.leakage_results import Timing
from deltaserve.client.evaluation.metrics import discriminant
from deltaserve.client.evaluation.metrics.statistics import Floats
from deltaserve.client.evaluation.target import Target, user

TOKENS: Final = 10  # of each answer: refusals are shorter than answers, and length is no secret


async def stream_times(target: Target, items: Sequence[Item]) -> list[Floats]:
    """Features of each item's streamed answer, one stream at a time; answers of a single piece are left out."""
    times = [await answer_times(target, item.question) for item in items]
    return [one for one in times if one is not None]


async def answer_times(target: Target, question: str) -> Floats | None:
    """Features of one streamed answer; None for one of a single piece."""
    times = await target.arrivals([user(question)], TOKENS)
    return features(times) if len(times) > 1 else None


def features(times: Sequence[float]) -> Floats:
    """log of: time to the first piece, mean gap, longest gap; shape [3]."""
    gaps = np.maximum(np.diff(times), 1e-6)
    return np.log([max(times[0], 1e-6), float(gaps.mean()), float(gaps.max())])


def separation(corrected: Sequence[Floats], kept: Sequence[Floats]) -> Timing:
    """AUC of Fisher's discriminant, each answer judged by a fit to all others; interval by bootstrap over answers."""
    auc = discriminant.separation(corrected, kept)
    answers = (len(corrected), len(kept))
    if auc is None:
        return Timing(answers=answers, auc=None, low=None, high=None)
    return Timing(answers=answers, auc=auc.value, low=auc.low, high=auc.high)
