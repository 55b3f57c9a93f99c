"""leak@k: how likely at least one of k draws gives an answer away, from more draws than k.

Unbiased for n draws of which c leak: 1 − C(n−c, k) / C(n, k), as pass@k (Chen et al. 2021, arXiv 2107.03374).
"""

from collections.abc import Sequence

import numpy as np

from deltaserve.client.evaluation.metrics.statistics import CONFIDENCE, RESAMPLES, SEED, Estimate, Floats


def leak_at_k(draws: int, leaks: Floats, k: int) -> Floats:
    """leaks: counts among `draws`, any shape; the same shape comes back. Raises ValueError for k > draws."""
    if not 1 <= k <= draws:
        raise ValueError(f"leak@{k} needs at least {k} draws")
    clean = draws - leaks[..., None]
    return np.asarray(1.0 - np.prod(np.maximum(clean - np.arange(k), 0.0) / (draws - np.arange(k)), axis=-1))


def worst(draws: int, leaks: Sequence[int], k: int) -> Estimate:
    """leak@k of the item that leaks most; interval by bootstrap over each item's draws.

    Of draws none of which leaked a bootstrap knows nothing: then the upper end is what one more draw, leaking, would
    have made of it.
    """
    counts = np.asarray(leaks, np.float64)
    draw = np.random.default_rng(SEED)
    again = draw.binomial(draws, counts / draws, size=(RESAMPLES, len(counts))).astype(np.float64)
    low, high = np.quantile(leak_at_k(draws, again, k).max(-1), _ends())
    value = float(leak_at_k(draws, counts, k).max())
    return Estimate(value, float(low), max(float(high), float(leak_at_k(draws, np.ones(1), k)[0])))


def mean(draws: int, leaks: Sequence[int], k: int) -> Estimate:
    """leak@k, mean over items; interval by bootstrap over items."""
    values = leak_at_k(draws, np.asarray(leaks, np.float64), k)
    draw = np.random.default_rng(SEED)
    again = values[draw.integers(len(values), size=(RESAMPLES, len(values)))].mean(-1)
    low, high = np.quantile(again, _ends())
    return Estimate(float(values.mean()), float(low), float(high))


def _ends() -> tuple[float, float]:
    return (1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2
