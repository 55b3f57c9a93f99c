"""A tail of which only some ids are allowed."""

import math
from functools import cached_property

import numpy as np

from deltaserve.server.decoding.constraints.matching import Allowed
from deltaserve.server.decoding.protocols import Floats, Ids, OffsetRow, Tail
from deltaserve.server.decoding.rows import log_sum_exp


def likeliest(row: OffsetRow, equals: Ids) -> int:
    """Of ids [n] with equal weights the one that the initial model has the most of; then the lowest."""
    base = row.base(equals)
    return int(equals[base == base.max()].min())


class MaskedTail:
    """`Tail` of the allowed ids outside `explicit`. Looks at the whole row, once something is asked of it."""

    def __init__(self, tail: Tail, row: OffsetRow, explicit: Ids, allowed: Allowed) -> None:
        self._tail = tail
        self._row = row
        self._explicit = explicit
        self._allowed = allowed

    @cached_property
    def _weights(self) -> Floats:
        weights = self._tail.weights()
        weights[~self._allowed.wide(weights.size)] = -math.inf
        return weights

    def best(self) -> tuple[int, float]:
        weight = float(self._weights.max())
        if weight == -math.inf:
            return -1, -math.inf
        return likeliest(self._row, np.flatnonzero(self._weights == weight)), weight

    def max_offset(self) -> float:
        if 2 * self._allowed.count > self._row.vocab_size:
            return self._tail.max_offset()  # hardly more, and without a look at every id
        mask = self._allowed.wide(self._row.vocab_size).copy()
        mask[self._explicit] = False
        outside = np.flatnonzero(mask)
        outside = outside[self._row.base(outside) > -math.inf]
        return float(self._row.offset(outside).max(initial=-math.inf))

    def log_weight(self, temperature: float) -> float:
        return log_sum_exp(self._weights / temperature)

    def weights(self) -> Floats:
        return self._weights.copy()


class NoTail:
    """`Tail` where every allowed id is explicit."""

    def __init__(self, vocab_size: int) -> None:
        self._size = vocab_size

    def best(self) -> tuple[int, float]:
        return -1, -math.inf

    def max_offset(self) -> float:
        return -math.inf

    def log_weight(self, temperature: float) -> float:  # noqa: ARG002  (as every tail)
        return -math.inf

    def weights(self) -> Floats:
        return np.full(self._size, -math.inf)
