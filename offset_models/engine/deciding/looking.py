"""What the rows say about a batch of questions, where the rows are: the few numbers from which most tokens are decided.

Nothing here waits for the device; the caller copies all of it at once. Reductions over the vocabulary read float32 and
add up in float64.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec

import numpy as np
import torch
from torch import Tensor

from deltaserve.offset_models.engine.deciding.filling import log_fill_scales
from deltaserve.offset_models.engine.deciding.questions import Questions
from deltaserve.offset_models.engine.deciding.reducing import largest, largest_at, total
from deltaserve.offset_models.engine.upload import upload
from deltaserve.server.decoding.protocols import Floats

_NONE = -math.inf
_TRITON = find_spec("triton") is not None


@dataclass(frozen=True, slots=True)
class Rows:
    """R rows, each for one question. A row that is not a finite distribution decides nothing."""

    base: Tensor  # [R, V] float32, log p_o of the first pair; -inf where the tokenizer has no such id
    offset: Tensor  # [R, V] float32, Σ_j α_j·δ_j; 0 where the tokenizer has no such id

    def take(self, rows: list[int]) -> "Rows":
        """Some of them, in this order."""
        if rows == list(range(len(self.base))):
            return self
        at = upload(rows, self.base.device)
        return Rows(self.base.index_select(0, at), self.offset.index_select(0, at))

    def finite(self) -> Tensor:
        """[R] whether each is a distribution with an offset below +inf; false for a NaN too."""
        return (largest(self.base) <= 0.01) & (largest(self.offset) < math.inf)


@dataclass(frozen=True, slots=True)
class Placed:
    """The host's arrays of a batch on the device of its rows."""

    ids: Tensor  # [R, H] int64
    is_told: Tensor  # [R, H]
    explicit: Tensor  # [R, H] ids to leave out of the tail; false everywhere in a row that has none
    scalars: Tensor  # [R, 5] float64: r, cap, cap rounded down to float32, temperature, truncated

    @classmethod
    def of(cls, questions: Questions, device: torch.device) -> "Placed":
        has = np.broadcast_to(questions.explicit[:, None] > 0, questions.ids.shape)
        flags = np.stack((questions.is_told, has))
        caps = questions.log_cap
        columns = (questions.mass, caps, _lowered(caps), questions.temperature, questions.truncated)
        scalars = np.stack(columns, axis=1)
        told, explicit = upload(flags, device)
        return cls(upload(questions.ids, device), told, explicit, upload(scalars, device))


def _lowered(caps: Floats) -> Floats:
    """`rounded_down` to float32 of each; a cap at or above probability 1 never bites."""
    rounded = caps.astype(np.float32)
    lower = np.where(rounded > caps, np.nextafter(rounded, np.float32(-np.inf)), rounded)
    lowered: Floats = np.where(caps < 0.0, lower, math.inf).astype(np.float64)
    return lowered


def without(values: Tensor, ids: Tensor, hidden: Tensor) -> Tensor:
    """A copy of `values` [R, V] with -inf at those of `ids` [R, H] that are `hidden` [R, H]."""
    kept = values.gather(1, ids)
    return values.scatter(1, ids, kept.masked_fill(hidden, _NONE))


@dataclass(frozen=True)
class Tails:
    """Everything outside the explicit ids: w(i) = min(log_scale + log p_o(i), cap) + offset(i), as `NumpyTail`."""

    rows: Rows
    placed: Placed
    tail_base: Tensor  # [R, V] log p_o, -inf at explicit ids
    log_scale: Tensor  # [R] float64; NaN where it was not found

    @cached_property
    def weights(self) -> Tensor:
        """[R, V] float32, -inf at explicit ids."""
        lowered = self.placed.scalars[:, 2:3].float()
        imputed = (self.tail_base + self.log_scale[:, None].float()).clamp_(max=lowered)
        return imputed.add_(self.rows.offset).masked_fill_(self.tail_base == _NONE, _NONE)


def certificate_view(rows: Rows, placed: Placed) -> Tensor:
    """[R, 2H + 2] float64: log p_o and the offset at the explicit ids; the largest offset outside; finite."""
    tail_base = without(rows.base, placed.ids, placed.explicit)
    if _has_kernel(rows.base):
        return _together(rows, placed, _kernel_view(rows, placed, rows.base, tail_base, full=False)[:, :2])
    return _together(rows, placed, _columns([_most_outside(rows, tail_base), rows.finite()]))


def full_view(rows: Rows, placed: Placed, *, unlike_one: bool, top: int) -> tuple[Tensor, Tails]:
    """[R, 2H + 10 (+ 2·top)] float64, and the tails themselves for those questions that need more than this.

    After what stands at the explicit ids: the largest offset outside, finite, log_scale, the heaviest weight of the
    tail and its id, log Σ exp(w / T), log Σ exp(w), and the best of the pair alone: its id, log p_o and offset there;
    then the `top` heaviest of the tail and their ids. `unlike_one`: some temperature is not 1.
    """
    outside = without(rows.base, placed.ids, placed.is_told)
    tail_base = without(rows.base, placed.ids, placed.explicit)
    if _has_kernel(rows.base):
        found = _kernel_view(rows, placed, outside, tail_base, full=True)
        tails = Tails(rows, placed, tail_base, found[:, 2])
    else:
        tails = Tails(rows, placed, tail_base, _log_scale(placed, outside))
        found = _columns(_figures(tails, unlike_one=unlike_one))
    return _together(rows, placed, found, *([_columns(_heaviest(tails.weights, top))] if top else [])), tails


def _figures(tails: Tails, *, unlike_one: bool) -> list[Tensor]:
    rows, weights, temperature = tails.rows, tails.weights, tails.placed.scalars[:, 3]
    best = largest_at(weights)[:, None]
    alone = largest_at(rows.base + rows.offset)[:, None]
    at_one = log_sum_exp(weights)
    tempered = log_sum_exp(weights / temperature[:, None].float()) if unlike_one else at_one
    figures = [_most_outside(rows, tails.tail_base), rows.finite(), tails.log_scale]
    figures += [weights.gather(1, best)[:, 0], best[:, 0], tempered, at_one]
    return [*figures, alone[:, 0], rows.base.gather(1, alone)[:, 0], rows.offset.gather(1, alone)[:, 0]]


def _most_outside(rows: Rows, tail_base: Tensor) -> Tensor:
    return largest(rows.offset.masked_fill(tail_base == _NONE, _NONE))


def _log_scale(placed: Placed, outside: Tensor) -> Tensor:
    mass, cap, _, _, truncated = placed.scalars.unbind(1)
    log_scale = log_fill_scales(outside, mass, cap)
    return log_scale.masked_fill((mass <= 0.0) | (truncated > 0.0), _NONE)


def log_sum_exp(values: Tensor) -> Tensor:
    """log Σ exp over the last axis, [R, V] float32 -> [R] float64; -inf for a row of -inf."""
    peak = largest(values).clamp_(min=torch.finfo(torch.float32).min)
    return total((values - peak[:, None]).exp_()).log_() + peak.double()


def _heaviest(weights: Tensor, n: int) -> list[Tensor]:
    """The n largest of each row, descending, lowest ids first among equals; then their ids: 2·n columns."""
    n = min(n, weights.shape[1])
    bits = weights.view(torch.int32)
    ordered = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).long()
    down = torch.arange(weights.shape[1] - 1, -1, -1, device=weights.device)
    ids = weights.shape[1] - 1 - ((ordered << 31) + down).topk(n).values % (1 << 31)
    return [*weights.gather(1, ids).unbind(1), *ids.unbind(1)]


def _together(rows: Rows, placed: Placed, *tables: Tensor) -> Tensor:
    explicit = [values.gather(1, placed.ids).double() for values in (rows.base, rows.offset)]
    return torch.cat([*explicit, *tables], 1)


def _columns(columns: list[Tensor]) -> Tensor:
    return torch.stack([column.double() for column in columns], 1)


def _has_kernel(rows: Tensor) -> bool:
    return rows.device.type == "cuda" and _TRITON


def _kernel_view(rows: Rows, placed: Placed, outside: Tensor, tail_base: Tensor, *, full: bool) -> Tensor:
    from deltaserve.offset_models.engine.deciding.launch import view

    return view(rows.base, rows.offset, outside, tail_base, placed.scalars, full=full)
