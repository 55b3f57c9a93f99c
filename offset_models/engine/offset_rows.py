"""From the logits of a batch to offset rows, where the logits are.

Symbols: p_o `base`, δ `offset`, α `strength`. Rows hold log p_o of the first pair and Σ_j α_j·δ_j, both in nats. A pair
with a gate has δ = 0 at positions where its members hardly differ, so that there the black box answers for itself.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch
from torch import Tensor

from deltaserve.errors import OffsetUnavailable
from deltaserve.offset_models.engine.pair import Pair
from deltaserve.server.decoding.filling import log_fill_scale
from deltaserve.server.decoding.protocols import Floats, Ids, OffsetRow
from deltaserve.server.decoding.rows import Array, NumpyRow, rounded_down

# How many of the heaviest ids outside a list are copied to find where the cap bites, in turn; the last one is all.
_HEAVIEST = (64, 4096, 1 << 62)


@dataclass(frozen=True, slots=True)
class PairLogits:
    """Logits of one pair at R positions."""

    pair: Pair
    strength: float
    initial: Tensor  # [R, W_o] float32
    unlearned: Tensor  # [R, W_u] float32
    gated: bool = True  # whether the pair's gate holds


def offset_rows(parts: Sequence[PairLogits]) -> tuple[Tensor, Tensor]:
    """(log p_o of the first pair, Σ_j α_j·δ_j), each [R, W] float32 with W the narrowest member.

    Ids that a pair's tokenizer does not have are −inf in the base and 0 in the offset; they become −inf in the logits
    given too (a copy of the vocabulary would cost as much as normalising it).
    """
    width = min(min(part.initial.shape[1], part.unlearned.shape[1]) for part in parts)
    base, offset = _one_pair(parts[0], width)
    for part in parts[1:]:
        offset += _one_pair(part, width)[1]
    return base, offset


def _one_pair(part: PairLogits, width: int) -> tuple[Tensor, Tensor]:
    hidden = _hidden(part.pair.masked_ids, width, part.initial.device)
    base = _log_softmax(part.initial[:, :width], part.pair.vocab_size, hidden)
    offset = _log_softmax(part.unlearned[:, :width], part.pair.vocab_size, hidden).sub_(base)
    offset[:, part.pair.vocab_size :] = 0.0
    if hidden is not None:
        offset.index_fill_(1, hidden, 0.0)
    if part.gated and part.pair.gate_nats > 0:
        _close(offset, base, part.pair.gate_nats)
    return base, offset if part.strength == 1.0 else offset.mul_(part.strength)


@lru_cache(maxsize=64)
def _hidden(masked_ids: tuple[int, ...], width: int, device: torch.device) -> Tensor | None:
    """The masked ids of a row, on its device; None where there are none."""
    ids = [i for i in masked_ids if i < width]
    return torch.tensor(ids, device=device) if ids else None


def _close(offset: Tensor, base: Tensor, gate_nats: float) -> None:
    """Zero the rows of δ where the two members hardly differ: KL(p_u ‖ p_o) = Σ p_u·δ below the gate. In place."""
    unlearned = (base + offset).exp_()
    divergence = (unlearned * offset.masked_fill(unlearned == 0, 0.0)).sum(-1)  # 0·−∞ is 0 here; NaN stays NaN
    offset.masked_fill_((divergence < gate_nats)[:, None], 0.0)


def _log_softmax(logits: Tensor, vocab_size: int, hidden: Tensor | None) -> Tensor:
    logits[:, vocab_size:] = -torch.inf
    if hidden is not None:
        logits.index_fill_(1, hidden, -torch.inf)
    return torch.log_softmax(logits, dim=-1)


def make_rows(base: Tensor, offset: Tensor) -> list[OffsetRow | OffsetUnavailable]:
    """One row per position: numpy views in host memory, device rows elsewhere; an error where a row is not finite."""
    if base.device.type == "cpu":
        return [_checked(b, o) for b, o in zip(base.numpy(), offset.numpy(), strict=True)]
    return device_rows(base, offset)


def _checked(base: Array, offset: Array) -> OffsetRow | OffsetUnavailable:
    try:
        return NumpyRow(base, offset)
    except OffsetUnavailable as error:
        return error


def device_rows(base: Tensor, offset: Tensor) -> list[OffsetRow | OffsetUnavailable]:
    """Rows that stay on the device of `base` and `offset` [R, W]; the finite check moves one flag a row."""
    unknown = base == -torch.inf
    finite = (base.amax(-1) <= 0.01) & (offset.masked_fill(unknown, 0.0).amax(-1) < torch.inf)
    return [
        DeviceRow(b, o) if ok else OffsetUnavailable("the offset pair gave a row that is not a finite distribution")
        for b, o, ok in zip(base, offset, finite.tolist(), strict=True)
    ]


class DeviceRow:
    """`OffsetRow` over tensors that stay where they are: gathers and single numbers move, not the vocabulary."""

    def __init__(self, log_base: Tensor, log_offset: Tensor) -> None:
        self.log_base = log_base  # [W] float32
        self.log_offset = log_offset  # [W] float32

    @property
    def vocab_size(self) -> int:
        return self.log_base.shape[0]

    @cached_property
    def max_offset(self) -> float:
        return float(self.log_offset.max())

    def offset(self, ids: Ids) -> Floats:
        return _to_host(self.log_offset[self.index(ids)])

    def base(self, ids: Ids) -> Floats:
        return _to_host(self.log_base[self.index(ids)])

    @torch.inference_mode()
    def lifted(self, n: int, outside: Ids) -> Ids:
        offsets = self.log_offset.masked_fill(self.log_base == -torch.inf, -torch.inf)
        offsets.index_fill_(0, self.index(outside), -torch.inf)
        values, ids = offsets.topk(min(n, self.vocab_size))
        found: Ids = ids[values > -torch.inf].cpu().numpy()
        return found

    @torch.inference_mode()
    def tail_scale(self, listed: Ids, mass: float, log_cap: float) -> float:
        outside = self.log_base.index_fill(0, self.index(listed), -torch.inf)
        for count in _HEAVIEST:
            rest = _Outside.of(outside, min(count, self.vocab_size))
            if rest.log_sum == -math.inf:
                return -math.inf
            if log_cap == math.inf:
                return math.log(mass) - rest.log_sum
            log_scale = log_fill_scale(rest.heaviest, rest.log_rest, mass, log_cap)
            if log_scale == math.inf:
                return log_cap - float(rest.heaviest[-1])  # every id at the cap
            if rest.log_rest == -math.inf or log_scale + float(rest.heaviest[-1]) <= log_cap:
                return log_scale
        raise AssertionError("the whole vocabulary was looked at")

    def tail(self, explicit: Ids, log_scale: float, log_cap: float) -> "DeviceTail":
        return DeviceTail(self, explicit, log_scale, log_cap)

    def index(self, ids: Ids) -> Tensor:
        return torch.from_numpy(ids).to(self.log_base.device)


@dataclass(frozen=True, slots=True)
class _Outside:
    """The ids outside a list, as one copy from the device tells of them."""

    heaviest: Floats  # [n] the largest log p_o, descending, without those that are -inf
    log_rest: float  # log Σ p_o of the others

    @classmethod
    def of(cls, outside: Tensor, count: int) -> "_Outside":
        """`outside` [W] is log p_o, -inf inside the list."""
        heaviest, ids = outside.topk(count)
        rest = outside.double().index_fill(0, ids, -torch.inf).logsumexp(0)
        *values, log_rest = torch.cat((heaviest.double(), rest[None])).tolist()
        return cls(np.array([value for value in values if value > -math.inf]), log_rest)

    @property
    def log_sum(self) -> float:
        return float(np.logaddexp.reduce(np.append(self.heaviest, self.log_rest)))


class DeviceTail:
    """`Tail` of a device row; every figure is computed when first asked for."""

    def __init__(self, row: DeviceRow, explicit: Ids, log_scale: float, log_cap: float) -> None:
        self._row = row
        self._explicit = explicit
        self._log_scale = log_scale
        self._log_cap = log_cap

    @cached_property
    @torch.inference_mode()
    def _weights(self) -> Tensor:
        return (self._imputed() + self._row.log_offset).index_fill_(0, self._row.index(self._explicit), -torch.inf)

    def _imputed(self) -> Tensor:
        """min(log_scale + log p_o, log_cap) of every id, explicit ones too."""
        imputed = self._row.log_base + self._log_scale
        if self._log_cap < 0.0:  # a cap at or above probability 1 never bites
            imputed.clamp_(max=float(rounded_down(self._log_cap, np.dtype(np.float32))))
        return imputed

    def best(self) -> tuple[int, float]:
        weight = float(self._weights.max())
        if weight == -math.inf:
            return -1, weight
        return int((self._weights == weight).to(torch.uint8).argmax()), weight

    @torch.inference_mode()
    def max_offset(self) -> float:
        offsets = self._row.log_offset.masked_fill(self._row.log_base == -torch.inf, -torch.inf)
        return float(offsets.index_fill_(0, self._row.index(self._explicit), -torch.inf).max())

    @torch.inference_mode()
    def log_weight(self, temperature: float) -> float:
        return float((self._weights.double() / temperature).logsumexp(0))

    def weights(self) -> Floats:
        return _to_host(self._weights)


def _to_host(values: Tensor) -> Floats:
    host: Floats = values.cpu().numpy().astype(np.float64)
    return host
