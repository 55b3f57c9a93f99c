"""What a token costs one replica, as benchmarks measured it: work of each stage, by how many streams run at a time."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

_LONG_ANSWER = 64  # tokens of bench-serving's long answers: one call of each answer is its first
_FRONT_ENDS = 4  # of a server on a machine with a GPU


@dataclass(frozen=True, slots=True)
class Stage:
    """Work that `servers` do side by side; it takes less a token where more streams share a batch."""

    name: str
    servers: float
    us_per_token: Mapping[int, float]  # streams → microseconds

    def work_us(self, streams: int) -> float:
        """Between the measured numbers of streams on a straight line of their logarithms; beyond them as at the end."""
        known = sorted(self.us_per_token)
        if streams <= known[0]:
            return self.us_per_token[known[0]]
        for low, high in pairwise(known):
            if streams <= high:
                share = math.log(streams / low) / math.log(high / low)
                return self.us_per_token[low] * (self.us_per_token[high] / self.us_per_token[low]) ** share
        return self.us_per_token[known[-1]]

    def token_s(self, streams: int) -> float:
        """Seconds a token of each stream, if this stage has nothing else to do."""
        return 1e-6 * streams * self.work_us(streams) / self.servers


@dataclass(frozen=True, slots=True)
class Costs:
    """One replica. The slowest stage, or the black box, sets the pace."""

    what: str
    stages: Sequence[Stage]
    streams: int  # max_streams
    added_first_ms: float
    restarts_per_100: float  # calls per 100 tokens, beyond an answer's first

    def token_s(self, streams: int) -> float:
        return max(stage.token_s(streams) for stage in self.stages)

    def carries(self, pace_s: float) -> int:
        """How many streams keep up with a black box of `pace_s` a token; at least one, at most `streams`."""
        return max((n for n in range(1, self.streams + 1) if self.token_s(n) <= pace_s), default=1)


def read(path: Path) -> Costs:
    """A file of benchmarks/data/costs, or what bench-serving or bench-gpu wrote. Raises ValueError with a sentence."""
    content = json.loads(path.read_text("utf-8"))
    readers = {None: _told, "serving": _of_serving, "gpu": _of_gpu}
    name = content.get("benchmark")
    if name not in readers:
        raise ValueError(f"{path} is of the benchmark {name}: give what bench-serving or bench-gpu wrote")
    try:
        return readers[name](content)
    except (KeyError, IndexError) as error:
        raise ValueError(f"{path} lacks {error}: run the benchmark without --only or --parts") from None


def _told(content: Mapping[str, Any]) -> Costs:
    stages = [
        Stage(one["name"], one["servers"], {int(n): us for n, us in one["us_per_token"].items()})
        for one in content["stages"]
    ]
    return Costs(content["what"], stages, content["streams"], content["added_first_ms"], content["restarts_per_100"])


def _of_serving(content: Mapping[str, Any]) -> Costs:
    """Greedy answers of 64 tokens; the machine also holds black box and clients."""
    rows = {row["case"]: row for row in content["rows"]}
    long = {
        int(found[1]): row for name, row in rows.items() if (found := re.match(r"retain T=0 streams=(\d+), 64", name))
    }
    work = {n: row["cpu_us_per_token"] + row["forward_us_per_token"] for n, row in long.items()}
    drawn = rows["retain T=1 streams=16, 64 tokens"]
    return Costs(
        content["machine"]["cpu"],
        [Stage("cpu", content["machine"]["cores"], work)],
        16 * content["machine"]["cores"],
        long[16]["ttft_added_ms"],
        drawn["calls_per_100"] - 100 / _LONG_ANSWER,
    )


def _of_gpu(content: Mapping[str, Any]) -> Costs:
    figures = content["figures"]
    found = {name: re.fullmatch(r"gpu_rows_(\d+)", name) for name in figures}
    rows = {int(match[1]): 1e6 / figures[name] for name, match in found.items() if match}
    served = [row for row in content["rows"] if row["part"] == "serving" and "cpu_us_per_token" in row]
    greedy = {row["streams"]: row for row in served if row["T"] == 0.0}
    drawn = [row for row in served if row["T"] == 1.0][-1]
    most = max(greedy)
    return Costs(
        content["settings"]["card"],
        [
            Stage("gpu", 1, rows),
            Stage("front-ends", _FRONT_ENDS, {n: row["cpu_us_per_token"] for n, row in greedy.items()}),
        ],
        256,
        greedy[most]["ttft_added_ms"],
        max(drawn["calls_per_100"] - 100 / _LONG_ANSWER, 0.0),
    )
