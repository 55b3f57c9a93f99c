"""Is this what such a distribution gives?"""

import numpy as np
from scipy.stats import chisquare

ALARM = 1e-6  # a fair sampler fails one test in a million
FEWEST = 5.0  # expected draws a cell must have for the chi-square distribution to describe it


def p_value(counts: np.ndarray, expected: np.ndarray) -> float:
    """Chi-square test of `counts` against weights of any scale; rare cells are taken together.

    An outcome that cannot happen and did is an error of its own, however rarely it was drawn.
    """
    counts, expected = counts.ravel(), expected.ravel()
    assert not counts[expected == 0].any(), "an outcome of probability zero was drawn"
    wanted = expected / expected.sum() * counts.sum()
    order = np.argsort(wanted)
    pooled = max(
        int(np.searchsorted(wanted[order], FEWEST)), int(np.searchsorted(np.cumsum(wanted[order]), FEWEST)) + 1
    )
    rare, common = order[:pooled], order[pooled:]
    if not common.size:
        return 1.0
    observed = np.append(counts[common], counts[rare].sum())
    return float(chisquare(observed, np.append(wanted[common], wanted[rare].sum())).pvalue)
