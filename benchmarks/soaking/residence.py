"""What a server holds: memory while it works, and slots, calls and files once nobody asks any more."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx2 as httpx
import numpy as np

from benchmarks.support.processes import Running, family

GIVEN_UP_S: Final = 30.0
_HELD: Final = (
    "deltaserve_num_requests_running",
    "deltaserve_num_requests_waiting",
    'deltaserve_engine{counter="streams"}',
    'deltaserve_engine{counter="waiting"}',
)
Sample = tuple[float, float]  # seconds since the beginning, MB


@dataclass(slots=True)
class Watch:
    """Samples resident memory, of all processes of the server together, until told to stop."""

    running: Running
    every_s: float = 2.0
    samples: list[Sample] = field(default_factory=list)
    told: Callable[[Sample], None] = lambda _: None
    _task: "asyncio.Task[None] | None" = None

    async def __aenter__(self) -> "Watch":
        self._task = asyncio.create_task(self._look())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _look(self) -> None:
        began = time.monotonic()
        while True:
            megabytes = await asyncio.to_thread(self.running.resident_bytes) / 1e6
            self.samples.append((time.monotonic() - began, megabytes))
            self.told(self.samples[-1])
            await asyncio.sleep(self.every_s)


def slope_mb_per_hour(samples: Sequence[Sample]) -> float:
    """By least squares over the second half: what is allocated once was allocated in the first."""
    half = samples[len(samples) // 2 :]
    if len(half) < 2:
        return float("nan")
    return float(3600.0 * np.polyfit([at for at, _ in half], [megabytes for _, megabytes in half], 1)[0])


@dataclass(frozen=True, slots=True)
class Held:
    """When nobody asks any more."""

    slots: float  # choices that run or wait, and streams of the engine
    calls: float  # that the black box is answering
    idle_s: float  # until neither was left, or it was given up


async def held_afterwards(running: Running, upstream: str) -> Held:
    """Looks until nothing is held; gives up after a while."""
    began = time.monotonic()
    async with httpx.AsyncClient(base_url=upstream, timeout=60, trust_env=False) as client:
        while True:
            metrics = await asyncio.to_thread(running.metrics)
            slots = sum(metrics.get(name, 0.0) for name in _HELD)
            stats: dict[str, Any] = (await client.get("/stats")).json()
            calls = float(stats["running"] + stats["waiting"])
            since = time.monotonic() - began
            if not slots + calls or since > GIVEN_UP_S:
                return Held(slots, calls, since)
            await asyncio.sleep(0.05)


async def files_left(running: Running, before: int) -> int:
    """How many more are open than before: idle connections are closed after some seconds, so it looks for a while."""
    began = time.monotonic()
    while (left := await asyncio.to_thread(open_files, running) - before) > 0:
        if time.monotonic() - began > GIVEN_UP_S:
            return left
        await asyncio.sleep(0.5)
    return 0


def open_files(running: Running) -> int:
    """Of all its processes, sockets among them."""
    return sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in family(running.pid))
