"""The most probable ids of a corrected distribution, for clients that ask for alternatives."""

import numpy as np

from deltaserve.server.decoding.correction import Corrected
from deltaserve.server.decoding.protocols import Floats, Ids


def most_probable(corrected: Corrected, n: int) -> tuple[Ids, Floats]:
    """The n ids with the largest log q, descending, and their log q; shapes [n], nats.

    Among equals a listed id comes first, then the lowest: a capped tail is as heavy as the last one listed.
    """
    weights = corrected.dense()
    n = min(n, weights.size)
    floor = np.partition(weights, weights.size - n)[weights.size - n]
    ids = np.flatnonzero(weights >= floor)
    unlisted = ~np.isin(ids, corrected.ids[: corrected.k])
    ids = ids[np.lexsort((ids, unlisted, -weights[ids]))][:n]
    ids = ids[weights[ids] > -np.inf]
    return ids, weights[ids] - corrected.log_z
