"""An offset row in host memory: the plain numpy form of `OffsetRow`, for CPUs and tests."""

import math
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from deltaserve.errors import OffsetUnavailable
from deltaserve.server.decoding.filling import log_fill_scale
from deltaserve.server.decoding.protocols import Floats, Ids

Array = NDArray[np.floating]

# Below this share of p_o inside the ids, 1 − Σ loses no digits that matter; above it the tail is summed itself.
_SAFE_COMPLEMENT = 0.99

# How far below the cap (nats) ids are looked at, in turn: what the cap cuts off lifts them. The last one sorts V ids.
_MARGINS = (3.0, 12.0, math.inf)


def log_sum_exp(values: Array) -> float:
    """log Σ exp(values) in float64, shape [n] to scalar; -inf for an empty or all -inf array."""
    if values.size == 0:
        return -math.inf
    peak = float(values.max())
    if peak == -math.inf:
        return peak
    return peak + math.log(float(np.exp(values - values.dtype.type(peak)).sum(dtype=np.float64)))


def log_add(one: float, other: float) -> float:
    """log(exp(one) + exp(other)); of two numbers numpy takes ten times as long."""
    high, low = (one, other) if one >= other else (other, one)
    return high if low == -math.inf or high == math.inf else high + math.log1p(math.exp(low - high))


def rounded_down(value: float, dtype: np.dtype[np.floating]) -> np.floating:
    """`value` in `dtype`, never above it: rounding must not lift a capped tail id over a listed one."""
    rounded: np.floating = dtype.type(value)
    return np.nextafter(rounded, dtype.type(-math.inf)) if float(rounded) > value else rounded


class NumpyTail:
    """`Tail` of a row in host memory; every figure is computed when first asked for."""

    def __init__(self, row: "NumpyRow", explicit: Ids, log_scale: float, log_cap: float) -> None:
        self._row = row
        self._explicit = explicit
        self._log_scale = log_scale
        self._log_cap = log_cap

    @cached_property
    def _weights(self) -> Array:
        weights = self._imputed()
        weights += self._row.log_offset
        weights[self._explicit] = -math.inf
        return weights

    def _imputed(self) -> Array:
        """min(log_scale + log p_o, log_cap) of every id, explicit ones too."""
        base = self._row.log_base
        if self._log_scale == -math.inf:
            return np.full_like(base, -math.inf)
        imputed = base + base.dtype.type(self._log_scale)
        if self._log_cap < 0.0:  # a cap at or above probability 1 never bites
            np.minimum(imputed, rounded_down(self._log_cap, base.dtype), out=imputed)
        return imputed

    def best(self) -> tuple[int, float]:
        best = int(self._weights.argmax())
        weight = float(self._weights[best])
        return (best, weight) if weight > -math.inf else (-1, -math.inf)

    def max_offset(self) -> float:
        offsets = np.where(self._row.known, self._row.log_offset, -math.inf)
        offsets[self._explicit] = -math.inf
        return float(offsets.max())

    def log_weight(self, temperature: float) -> float:
        return log_sum_exp(self._weights if temperature == 1.0 else self._weights / temperature)

    def weights(self) -> Floats:
        return self._weights.astype(np.float64)


class NumpyRow:
    """log p_o and the summed offset over the vocabulary, both of shape [V] and in nats.

    `log_base` is -inf exactly at the ids that the tokenizer does not have; the offset is set to 0 there.
    Raises OffsetUnavailable when either array holds a NaN or an offset is +inf: such a row corrects nothing.
    """

    def __init__(self, log_base: Array, log_offset: Array) -> None:
        self.log_base = log_base
        self.known = log_base > -math.inf
        self.log_offset = log_offset if self.known.all() else np.where(self.known, log_offset, log_offset.dtype.type(0))
        self.max_offset = float(self.log_offset.max())
        if not (log_base.max() <= 0.01 and self.max_offset < math.inf):  # false for NaN too
            raise OffsetUnavailable("the offset pair gave a row that is not a finite distribution")

    @property
    def vocab_size(self) -> int:
        return int(self.log_base.size)

    def offset(self, ids: Ids) -> Floats:
        return self.log_offset[ids].astype(np.float64)

    def base(self, ids: Ids) -> Floats:
        return self.log_base[ids].astype(np.float64)

    def lifted(self, n: int, outside: Ids) -> Ids:
        offsets = np.where(self.known, self.log_offset, -math.inf)
        offsets[outside] = -math.inf
        ids = np.argpartition(-offsets, n)[:n] if n < offsets.size else np.arange(offsets.size)
        ids = ids[np.argsort(-offsets[ids], kind="stable")]
        return ids[offsets[ids] > -math.inf]

    def tail_scale(self, listed: Ids, mass: float, log_cap: float) -> float:
        log_outside = self._log_outside(listed)
        if log_outside == -math.inf:
            return -math.inf
        reached = log_cap - (math.log(mass) - log_outside)  # log p_o from which on ids meet the cap before any is cut
        for margin in _MARGINS if reached < math.inf else ():
            ids = self._outside_above(reached - margin, listed)
            heaviest = -np.sort(-self.base(ids))
            log_scale = log_fill_scale(heaviest, self._log_outside(np.append(listed, ids)), mass, log_cap)
            if log_scale == math.inf:
                return log_cap - float(heaviest[-1])  # every id at the cap
            if log_cap - log_scale >= reached - margin:
                return log_scale
        return math.log(mass) - log_outside

    def _outside_above(self, log_floor: float, listed: Ids) -> Ids:
        """Known ids outside `listed` with log p_o above the floor."""
        ids = np.flatnonzero(self.log_base > log_floor)
        return ids[~np.isin(ids, listed)]

    def _log_outside(self, ids: Ids) -> float:
        """log Σ_{i∉ids} p_o(i)."""
        inside = float(np.exp(self.base(ids)).sum())
        if inside < _SAFE_COMPLEMENT:
            return math.log1p(-inside)
        outside = self.log_base.copy()
        outside[ids] = -math.inf
        return log_sum_exp(outside)

    def tail(self, explicit: Ids, log_scale: float, log_cap: float) -> NumpyTail:
        return NumpyTail(self, explicit, log_scale, log_cap)
