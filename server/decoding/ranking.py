"""The most probable ids of a distribution."""

import numpy as np

from deltaserve.server.decoding.correction import Corrected
from deltaserve.server.decoding.protocols import NO_IDS, Floats, Ids


def largest(values: Floats, n: int, preferred: Ids = NO_IDS) -> Ids:
    """Indices of the n largest of `values` [V], descending; among equals `preferred` ones come first, then the lowest.

    Shape [min(n, V)].
    """
    if n >= values.size:
        ids = np.arange(values.size)
    else:
        ids = np.flatnonzero(values >= np.partition(values, values.size - n)[values.size - n])
    if preferred.size:
        order = np.lexsort((~np.isin(ids, preferred), -values[ids]))
    else:
        order = np.argsort(-values[ids], kind="stable")
    return ids[order[:n]]


def most_probable(corrected: Corrected, n: int) -> tuple[Ids, Floats]:
    """The n ids with the largest log q, descending, and their log q in nats; fewer where no others have any weight.

    Among equals a listed id comes first: a capped tail is as heavy as the last one listed.
    """
    weights = corrected.dense()
    ids = largest(weights, n, corrected.ids[: corrected.k])
    ids = ids[weights[ids] > -np.inf]
    return ids, weights[ids] - corrected.log_z
