"""The most probable ids of a corrected distribution, for clients that ask for alternatives."""

import numpy as np

from server.decoding.correction import Corrected
from server.decoding.protocols import Floats, Ids


def most_probable(corrected: Corrected, n: int) -> tuple[Ids, Floats]:
    """The n ids with the largest log q, descending (lowest first among equals), and their log q; shapes [n], nats."""
    weights = corrected.dense()
    n = min(n, weights.size)
    floor = np.partition(weights, weights.size - n)[weights.size - n]
    ids = np.flatnonzero(weights >= floor)
    ids = ids[np.argsort(-weights[ids], kind="stable")][:n]
    ids = ids[weights[ids] > -np.inf]
    return ids, weights[ids] - corrected.log_z
