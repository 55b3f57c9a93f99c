"""`server/decoding/filling.py` for a batch of rows."""

import math
from typing import Final

import torch
from torch import Tensor

from deltaserve.server.decoding.filling import ROUNDING

FILLED: Final = 64  # so many of the heaviest ids outside a list are looked at to find where the cap bites


def log_fill_scales(heaviest: Tensor, log_rest: Tensor, mass: Tensor, cap: Tensor) -> Tensor:
    """log s for each row, [R] float64; NaN where the cap bites below the `heaviest` [R, n] (descending).

    `log_rest` [R]: log Σ p_o of the others; `mass` [R] > 0 the probability that the tail holds; `cap` [R] nats.
    """
    n = heaviest.shape[1]
    parts = torch.cat((heaviest, log_rest[:, None]), 1)
    below = parts.flip(1).logcumsumexp(1).flip(1)  # what stays below the cap when the m heaviest are at it, m = 0 … n
    capped = torch.arange(n + 1, device=heaviest.device) * cap.exp().nan_to_num(posinf=0.0)[:, None]
    left = mass[:, None] - capped
    log_left = left.masked_fill(left < ROUNDING, 0.0).log()
    fits = (log_left[:, :-1] - below[:, :-1] + heaviest <= cap[:, None]) | (heaviest == -math.inf)
    at_cap = torch.where(fits.any(1), fits.int().argmax(1), n)[:, None]
    # Rounding takes nobody off the cap again.
    least = torch.where(at_cap > 0, cap[:, None] - heaviest.gather(1, (at_cap - 1).clamp(min=0)), -math.inf)
    below_there = below.gather(1, at_cap)
    scale = torch.maximum(log_left.gather(1, at_cap) - below_there, least)
    scale = torch.where(below_there == -math.inf, least, scale)[:, 0]  # every id at the cap
    others = (at_cap[:, 0] == n) & (log_rest > -math.inf)  # they may be at the cap too
    simple = mass.log() - below[:, 0]
    return torch.where(cap == math.inf, simple, scale.masked_fill(others, math.nan))
