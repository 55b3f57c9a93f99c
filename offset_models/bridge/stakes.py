"""Which of the listed candidates can still matter: for those that cannot, no row of the pair is computed.

What is known of P(x) of a candidate lies between two numbers, and so does its weight ℓ(v) + α·δ(v). More rows only
bring them closer. A greedy step is decided among the candidates that the best one does not exceed whatever their rows
say: it chooses the same token as with all rows. A draw leaves rows out that move no more than `LEFT` of the target all
together, whatever they say; their candidates keep the offset that the rows at hand tell of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from deltaserve.offset_models.bridge.known import Known
from deltaserve.offset_models.bridge.probabilities import TINY
from deltaserve.server.decoding.protocols import Floats, Ids

LEFT: Final = 1e-3  # of the target's probability
_ROUNDING: Final = 1e-9  # nats

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Stakes:
    """What the black box gives its candidates, and how one of them will be chosen."""

    ids: Ids  # [n]
    logprobs: Floats  # [n] ℓ; -inf for one that may not be chosen
    temperature: float
    counted: bool = False  # of a greedy step: how much the others hold matters too

    def open(self, least: Floats, most: Floats) -> Mask:
        """Which candidates need more rows, [n]; `least` and `most` [n] bound α·δ of each."""
        possible = self.logprobs > -np.inf
        low = self.logprobs + least
        high = np.where(possible, self.logprobs + np.where(possible, most, 0.0), -np.inf)
        if self.temperature > 0.0:
            return _unsure(low / self.temperature, high / self.temperature)
        contending: Mask = (high >= low.max(initial=-np.inf) - _ROUNDING) & (high > -np.inf)
        return contending | _unsure(low, high) if self.counted else contending


def _unsure(low: Floats, high: Floats) -> Mask:
    """All but those whose weights are known best: together these may err by `LEFT` of what all hold at least.

    Two sets of weights that lie between the same bounds differ, as distributions, by no more than the sum of what lies
    between the bounds, over the least sum of all (total variation).
    """
    unsure, peak = np.ones(low.size, np.bool_), low.max(initial=-np.inf)
    if peak > -np.inf:
        with np.errstate(over="ignore"):
            between = np.exp(high - peak) - np.exp(low - peak)
        order = np.argsort(between, kind="stable")
        unsure[order] = np.cumsum(between[order]) > LEFT * np.exp(low - peak).sum()
    return unsure & (high > -np.inf)


def offset_bounds(told: Sequence[Known], before: Floats, strengths: Sequence[float]) -> tuple[Floats, Floats]:
    """Between what Σ_j α_j·δ_j of each candidate lies, [n] each. `before` [members]: P(t), (o, u) of each pair."""
    least, most = np.stack([each.least for each in told]), np.stack([each.most for each in told])  # [n, members]
    low, high = (np.log(np.maximum(each, TINY) / before) for each in (least, most))
    down, up = low[:, 1::2] - high[:, ::2], high[:, 1::2] - low[:, ::2]  # [n, pairs]
    up[least[:, ::2] == 0] = np.inf
    never = (most[:, ::2] == 0).any(-1)  # such an id has no offset: δ counts as 0
    up[never] = down[never] = 0.0
    used = np.array(strengths) != 0.0
    ends = np.stack((down, up))[:, :, used] * np.array(strengths)[used]
    return ends.min(0).sum(-1), ends.max(0).sum(-1)
