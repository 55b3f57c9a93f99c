"""One target: inputs are drawn and given to it, and whatever it raises that it does not say it raises is a crash."""

import hashlib
import os
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.fuzzing.mutating import Mutator
from benchmarks.support.processes import resident_bytes

KEPT = Path("build/fuzz")
_MOST_KEPT = 20  # of one target
_SAMPLES = 20
Check = Callable[[bytes, Mutator], None]  # raises what it must not raise


class Different(Exception):
    """Two ways that must give the same gave something else."""


@dataclass(frozen=True, slots=True)
class Target:
    """What is tried: good inputs, what to do with one, and the errors that are documented."""

    name: str
    seeds: Sequence[bytes]
    check: Check
    documented: tuple[type[BaseException], ...]
    share: float  # of all inputs
    of_json: bool = True


@dataclass(slots=True)
class Result:
    """What came of it."""

    name: str
    inputs: int = 0
    refused: int = 0  # with a documented error
    crashes: int = 0
    seconds: float = 0.0
    resident_mb: list[float] = field(default_factory=list)
    seen: dict[str, str] = field(default_factory=dict)  # where it was raised → the file with the first input

    @property
    def growth_mb(self) -> float:
        """Of resident memory over the second half."""
        half = self.resident_mb[len(self.resident_mb) // 2 :]
        return half[-1] - half[0] if half else 0.0


def run(target: Target, inputs: int, seed: int, kept: Path = KEPT) -> Result:
    """So many inputs, the same for the same seed."""
    mutator, result = Mutator(target.seeds, seed, of_json=target.of_json), Result(target.name)
    began = time.perf_counter()
    for number in range(inputs):
        raw = mutator.drawn()
        try:
            target.check(raw, mutator)
        except target.documented:
            result.refused += 1
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001  (a panic of a Rust library is no Exception)
            _keep(result, raw, error, kept)
        result.inputs += 1
        if number % max(inputs // _SAMPLES, 1) == 0:
            result.resident_mb.append(resident_bytes(os.getpid()) / 1e6)
    result.resident_mb.append(resident_bytes(os.getpid()) / 1e6)
    result.seconds = time.perf_counter() - began
    return result


def _keep(result: Result, raw: bytes, error: BaseException, kept: Path) -> None:
    """The first input that was raised over in one place."""
    result.crashes += 1
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{type(error).__name__} at {Path(frames[-1].filename).name}:{frames[-1].lineno}"
    if where in result.seen or len(result.seen) >= _MOST_KEPT:
        return
    kept.mkdir(parents=True, exist_ok=True)
    path = kept / f"{result.name}-{hashlib.sha256(raw).hexdigest()[:12]}.bin"
    path.write_bytes(raw)
    result.seen[where] = str(path)
