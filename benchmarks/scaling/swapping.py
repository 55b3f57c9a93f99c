"""How long an activation takes until every replica holds it, from what `make drill-fleet` measured with a few."""

import json
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist

from benchmarks.support.report import quantile

_STORE_S = 50e-6  # of Redis for one contact: a row written, the record read
_ROW_S = 20e-6  # for the replica that was asked to read one row of another
DRILLED = (3, 0.092, 0.214)  # replicas, median and 99th percentile of `make drill-fleet`, docs/fleet.md


@dataclass(frozen=True, slots=True)
class Holding:
    """Seconds from the record's change until one replica has told that it holds it: log-normal."""

    mu: float
    sigma: float

    @classmethod
    def fitted(cls, replicas: int, median_s: float, p99_s: float) -> "Holding":
        """From the slowest of `replicas`: the quantile q of a maximum is the quantile q^(1/replicas) of each."""
        low, high = (NormalDist().inv_cdf(q ** (1 / replicas)) for q in (0.5, 0.99))
        sigma = math.log(p99_s / median_s) / (high - low)
        return cls(math.log(median_s) - sigma * low, sigma)


def measured(path: Path | None) -> Holding:
    """Of build/bench/fleet.json, else of docs/fleet.md."""
    if path is None:
        return Holding.fitted(*DRILLED)
    content = json.loads(path.read_text("utf-8"))
    return Holding.fitted(
        content["settings"]["replicas"], content["rows"]["swap_s_p50"], content["figures"]["swap_s_p99"]
    )


def swap_s(replicas: int, holding: Holding, swaps: int = 200, seed: int = 1) -> Sequence[float]:
    """The store takes the contacts one after the other; then the rows of all are read."""
    chance = random.Random(seed)
    return [_one(replicas, holding, chance) for _ in range(swaps)]


def _one(replicas: int, holding: Holding, chance: random.Random) -> float:
    free = 0.0
    for told in sorted(chance.lognormvariate(holding.mu, holding.sigma) for _ in range(replicas)):
        free = max(free, told) + _STORE_S
    return free + replicas * _ROW_S


def p50_p99(replicas: int, holding: Holding) -> tuple[float, float]:
    times = swap_s(replicas, holding)
    return quantile(times, 0.5), quantile(times, 0.99)
