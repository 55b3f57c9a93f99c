"""Admission: a bounded number of choices run at a time, and a bounded number wait for a place."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from deltaserve.errors import BadRequest, RateLimited
from deltaserve.server.settings import Settings
from deltaserve.server.telemetry import Metrics


class Gate:
    """At most `max_streams` choices run; at most `max_queue` more wait, first come first served."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._places = asyncio.Semaphore(settings.max_streams)
        self._capacity = settings.max_streams + settings.max_queue
        self._reserved = 0

    @contextmanager
    def reserved(self, count: int) -> Iterator["Ticket"]:
        """Room for `count` choices, running or waiting. Raises RateLimited; BadRequest when there can never be."""
        if count > self._capacity:
            raise BadRequest(f"The request asks for {count} choices; this server takes {self._capacity} at a time.")
        if self._reserved + count > self._capacity:
            raise RateLimited("The server is busy: too many requests are waiting.")
        self._reserved += count
        try:
            yield Ticket(self)
        finally:
            self._reserved -= count

    @asynccontextmanager
    async def place(self, timeout_s: float | None) -> AsyncIterator[None]:
        """Holds a place among the running choices. Raises RateLimited when none is free within `timeout_s`."""
        with self._metrics.waiting.track_inprogress():
            try:
                async with asyncio.timeout(timeout_s):
                    await self._places.acquire()
            except TimeoutError:
                raise RateLimited(f"The server is busy: no place became free in {timeout_s:g} s.") from None
        try:
            with self._metrics.running.track_inprogress():
                yield
        finally:
            self._places.release()

    @property
    def queue_timeout_s(self) -> float:
        return self._settings.queue_timeout_s


class Ticket:
    """One request's right to wait. Its first choice waits for the queue timeout; once that runs, the rest queue up."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._first = True
        self._opened = asyncio.Event()

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        first, self._first = self._first, False
        if not first:
            await self._opened.wait()
        async with self._gate.place(self._gate.queue_timeout_s if first else None):
            self._opened.set()
            yield
