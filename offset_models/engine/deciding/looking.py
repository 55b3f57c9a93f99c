"""What the rows say about a batch of questions, where the rows are: the few numbers from which most tokens are decided.

Nothing here waits for the device; the caller copies all of it at once. Reductions over the vocabulary read float32 and
add up in float64.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from deltaserve.offset_models.engine.deciding.filling import log_fill_scales
from deltaserve.offset_models.engine.deciding.questions import Questions
from deltaserve.offset_models.engine.deciding.reducing import largest, largest_at, total
from deltaserve.offset_models.engine.upload import upload
from deltaserve.server.decoding.rows import rounded_down

_NONE = -math.inf


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
        lowered = [_lowered(cap) for cap in questions.log_cap.tolist()]
        scalars = np.stack(
            (questions.mass, questions.log_cap, np.array(lowered), questions.temperature, questions.truncated), axis=1
        )
        told, explicit = upload(flags, device)
        return cls(upload(questions.ids, device), told, explicit, upload(scalars, device))


def _lowered(cap: float) -> float:
    """The cap in float32, never above it; a cap at or above probability 1 never bites."""
    return float(rounded_down(cap, np.dtype(np.float32))) if cap < 0.0 else math.inf


def without(values: Tensor, ids: Tensor, hidden: Tensor) -> Tensor:
    """A copy of `values` [R, V] with -inf at those of `ids` [R, H] that are `hidden` [R, H]."""
    kept = values.gather(1, ids)
    return values.scatter(1, ids, kept.masked_fill(hidden, _NONE))


def certificate_view(rows: Rows, placed: Placed) -> Tensor:
    """[R, 2H + 2] float64: log p_o and the offset at the explicit ids; the largest offset outside; finite."""
    offset = without(rows.offset.masked_fill(rows.base == _NONE, _NONE), placed.ids, placed.explicit)
    return _together(rows, placed, [largest(offset), rows.finite()])


@dataclass(frozen=True, slots=True)
class Tails:
    """Everything outside the explicit ids."""

    weights: Tensor  # [R, V] float32, -inf at explicit ids
    log_scale: Tensor  # [R] float64; NaN where more of the vocabulary must be looked at to tell


def tails(rows: Rows, placed: Placed) -> Tails:
    """w(i) = min(log_scale + log p_o(i), cap) + offset(i), as `NumpyTail`."""
    mass, cap, lowered, _, truncated = placed.scalars.unbind(1)
    log_scale = _log_scale(rows, placed, mass, cap, truncated)
    imputed = (rows.base + log_scale[:, None].float()).clamp_(max=lowered[:, None].float())
    weights = without(imputed.add_(rows.offset), placed.ids, placed.explicit)
    return Tails(weights, log_scale)


def _log_scale(rows: Rows, placed: Placed, mass: Tensor, cap: Tensor, truncated: Tensor) -> Tensor:
    log_scale = log_fill_scales(without(rows.base, placed.ids, placed.is_told), mass, cap)
    return log_scale.masked_fill((mass <= 0.0) | (truncated > 0.0), _NONE)


def log_sum_exp(values: Tensor) -> Tensor:
    """log Σ exp over the last axis, [R, V] float32 -> [R] float64; -inf for a row of -inf."""
    peak = largest(values).clamp_(min=torch.finfo(torch.float32).min)
    return total((values - peak[:, None]).exp_()).log_() + peak.double()


def full_view(rows: Rows, placed: Placed, *, unlike_one: bool, top: int) -> tuple[Tensor, Tails]:
    """[R, 2H + 9 (+ 2·top)] float64, and the tails themselves for those questions that need more than this.

    After what stands at the explicit ids: the largest offset outside, finite, log_scale, the heaviest weight of the
    tail and its id, log Σ exp(w / T), log Σ exp(w), and the best of the pair alone: its id, log p_o and offset there;
    then the `top` heaviest of the tail and their ids. `unlike_one`: some temperature is not 1.
    """
    tail = tails(rows, placed)
    temperature = placed.scalars[:, 3]
    best = largest_at(tail.weights)[:, None]
    alone = largest_at(rows.base + rows.offset)[:, None]
    at_one = log_sum_exp(tail.weights)
    tempered = log_sum_exp(tail.weights / temperature[:, None].float()) if unlike_one else at_one
    offset = without(rows.offset.masked_fill(rows.base == _NONE, _NONE), placed.ids, placed.explicit)
    columns = [largest(offset), rows.finite(), tail.log_scale, tail.weights.gather(1, best)[:, 0], best[:, 0]]
    columns += [tempered, at_one, alone[:, 0], rows.base.gather(1, alone)[:, 0], rows.offset.gather(1, alone)[:, 0]]
    return _together(rows, placed, columns + (_heaviest(tail.weights, top) if top else [])), tail


def _heaviest(weights: Tensor, n: int) -> list[Tensor]:
    """The n largest of each row, descending, lowest ids first among equals; then their ids: 2·n columns."""
    n = min(n, weights.shape[1])
    bits = weights.view(torch.int32)
    ordered = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).long()
    down = torch.arange(weights.shape[1] - 1, -1, -1, device=weights.device)
    ids = weights.shape[1] - 1 - ((ordered << 31) + down).topk(n).values % (1 << 31)
    return [*weights.gather(1, ids).unbind(1), *ids.unbind(1)]


def _together(rows: Rows, placed: Placed, columns: list[Tensor]) -> Tensor:
    explicit = [values.gather(1, placed.ids).double() for values in (rows.base, rows.offset)]
    return torch.cat([*explicit, torch.stack([column.double() for column in columns], 1)], 1)
