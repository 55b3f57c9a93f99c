"""Threads for the long computations of single requests, so that the event loop goes on: a few, with a bounded queue."""

from collections.abc import Callable
from typing import Final, TypeVar

import anyio
import anyio.to_thread

from deltaserve.errors import RateLimited
from deltaserve.offset_models.engine.host_memory import give_back

T = TypeVar("T")

SHORT_BYTES: Final = 8_000  # what a body of this length asks for is done on the loop: a thread would cost more
_TRIMMED_BYTES: Final = 200_000  # above this the memory is worth giving back at once
_THREADS: Final = 2
_WAITING: Final = 64


class WorkerThreads:
    """The threads of one app. Their work lets the loop run only between calls into C, so those calls must be short."""

    def __init__(self, threads: int = _THREADS, waiting: int = _WAITING) -> None:
        self._limiter = anyio.CapacityLimiter(threads)
        self._most = threads + waiting
        self._held = 0

    async def run(self, size: int, work: Callable[[], T]) -> T:
        """The result of `work`, done on the loop where the request has few bytes (`size`). Raises RateLimited."""
        if size <= SHORT_BYTES:
            return work()
        if self._held >= self._most:
            raise RateLimited("The server is busy: too many long requests are being read.")
        self._held += 1
        try:
            return await anyio.to_thread.run_sync(_tidy(work, size), limiter=self._limiter)
        finally:
            self._held -= 1


def _tidy(work: Callable[[], T], size: int) -> Callable[[], T]:
    """`work`, after which the memory that it used is the system's again."""

    def worked() -> T:
        try:
            return work()
        finally:
            if size > _TRIMMED_BYTES:
                give_back()

    return worked
