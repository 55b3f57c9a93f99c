"""Reductions over long rows. One of a few rows would keep a small part of a GPU busy: they go by parts of a row."""

import torch
from torch import Tensor

_PART = 1024


def parts(rows: Tensor) -> Tensor:
    """[R, V] -> [R, n, V / n]; as one part where V cannot be cut evenly."""
    count = rows.shape[1] // _PART if rows.shape[1] % _PART == 0 else 1
    return rows.view(rows.shape[0], max(count, 1), -1)


def largest(rows: Tensor) -> Tensor:
    """[R]; NaN where there is one."""
    return parts(rows).amax(-1).amax(-1)


def largest_at(rows: Tensor) -> Tensor:
    """[R] the first place of the largest."""
    cut = parts(rows)
    at = cut.argmax(-1)
    part = cut.gather(2, at[:, :, None])[:, :, 0].argmax(-1, keepdim=True)
    return (part * cut.shape[2] + at.gather(1, part))[:, 0]


def total(rows: Tensor) -> Tensor:
    """[R] float64; parts of 1,024 are added up in float32."""
    cut = parts(rows)
    return cut.sum(-1, dtype=torch.float32 if cut.shape[2] <= _PART else torch.float64).sum(-1, dtype=torch.float64)
