"""How sure a share of a few items is."""

import math
from dataclasses import dataclass
from typing import Final

Z_95: Final = 1.959963984540054  # of a two-sided 95 % interval


@dataclass(frozen=True, slots=True)
class Interval:
    low: float
    high: float


def wilson(successes: int, items: int) -> Interval:
    """The 95 % score interval of a share (Wilson 1927); (0, 1) when nothing was tried."""
    if items == 0:
        return Interval(0.0, 1.0)
    share, spread = successes / items, Z_95 * Z_95 / items
    middle = (share + spread / 2) / (1 + spread)
    half = Z_95 * math.sqrt(share * (1 - share) / items + spread / (4 * items)) / (1 + spread)
    return Interval(max(0.0, middle - half), min(1.0, middle + half))
