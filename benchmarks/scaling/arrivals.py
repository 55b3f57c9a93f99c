"""When people ask: how much more or less than usual at each moment."""

import math
from collections.abc import Callable
from typing import Final

Trace = Callable[[float], float]  # seconds → how many times the usual rate


def steady(_: float) -> float:
    return 1.0


def diurnal(at_s: float, day_s: float = 60.0) -> float:
    """A day, pressed into a minute: at night a fifth, at noon nine times that."""
    return 1.0 - 0.8 * math.cos(2 * math.pi * at_s / day_s)


def bursty(at_s: float, every_s: float = 12.0, burst_s: float = 3.0) -> float:
    """A quarter of the time three times as many, else a third."""
    return 3.0 if at_s % every_s < burst_s else 1 / 3


TRACES: Final[dict[str, Trace]] = {"steady": steady, "diurnal": diurnal, "bursty": bursty}
