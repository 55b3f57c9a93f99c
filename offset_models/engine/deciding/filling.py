"""`server/decoding/filling.py` for a batch of rows, by passes over the vocabulary instead of a sort.

Σ_i min(s·p_o(i), cap) = r: with the ids known that are at the cap, s follows from the others. Lifting s lifts more ids
to the cap, never one off it, so that the set only grows and is reached after a few passes.
"""

import math
from typing import Final

import torch
from torch import Tensor

from deltaserve.offset_models.engine.deciding.reducing import largest, total
from deltaserve.server.decoding.filling import ROUNDING

_PASSES: Final = 10


def log_fill_scales(outside: Tensor, mass: Tensor, cap: Tensor) -> Tensor:
    """log s for each row, [R] float64; NaN where so many passes do not find it; -inf where no id is outside.

    `outside` [R, V] float32: log p_o, -inf at ids that the black box told of; `mass` [R] the probability that the tail
    holds; `cap` [R] nats, +inf for none.
    """
    peak = largest(outside)[:, None].clamp_(min=torch.finfo(torch.float32).min)
    probs = (outside - peak).exp_()  # on the scale of the heaviest
    level = cap.exp().nan_to_num(posinf=0.0)
    scale, count = _lifted(mass, total(probs), 0.0), torch.zeros_like(mass)
    before = count
    for _ in range(_PASSES):
        before = count
        capped = probs > (cap.exp() / scale).float()[:, None]
        count = total(capped)
        below = total(probs.masked_fill(capped, 0.0))
        # Where nothing is below the cap every id is at it: any scale that lifts the lightest there will do.
        scale = torch.where(below > 0.0, torch.maximum(scale, _lifted(mass, below, count * level)), scale)
    log_scale = scale.log() - peak[:, 0].double()
    none = peak[:, 0] <= torch.finfo(torch.float32).min
    return log_scale.masked_fill(count != before, math.nan).masked_fill(none, -math.inf)


def _lifted(mass: Tensor, below: Tensor, at_cap: Tensor | float) -> Tensor:
    """The scale at which the ids below the cap hold what those at it leave."""
    left = mass - at_cap
    return left.masked_fill(left < ROUNDING, 0.0) / below
