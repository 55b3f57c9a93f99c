"""Admission: a bounded number of choices run at a time, and a bounded number wait for a place."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

from deltaserve.errors import BadRequest, RateLimited
from deltaserve.server.telemetry import Metrics


class Places(Protocol):
    """The places of all choices, over all processes that answer requests."""

    def reserved(self, count: int) -> AbstractAsyncContextManager[None]:
        """Room for `count` choices, running or waiting. Raises RateLimited; BadRequest when there can never be."""

    def place(self, timeout_s: float | None) -> AbstractAsyncContextManager[None]:
        """A place among the running choices, first come first served. Raises RateLimited after `timeout_s`."""


class LocalPlaces:
    """The `Places` of one event loop: at most `running` at a time, at most `waiting` more."""

    def __init__(self, running: int, waiting: int) -> None:
        self._waiting = waiting
        self._reserved = 0
        self.allow(running)

    def allow(self, running: int) -> None:
        """So many at a time; before the first choice comes."""
        self._places = asyncio.Semaphore(running)
        self._capacity = running + self._waiting

    @asynccontextmanager
    async def reserved(self, count: int) -> AsyncIterator[None]:
        if count > self._capacity:
            raise BadRequest(f"The request asks for {count} choices; this server takes {self._capacity} at a time.")
        if self._reserved + count > self._capacity:
            raise RateLimited("The server is busy: too many requests are waiting.")
        self._reserved += count
        try:
            yield
        finally:
            self._reserved -= count

    @asynccontextmanager
    async def place(self, timeout_s: float | None) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(timeout_s):
                await self._places.acquire()
        except TimeoutError:
            raise RateLimited(f"The server is busy: no place became free in {timeout_s:g} s.") from None
        try:
            yield
        finally:
            self._places.release()


class Gate:
    """The way of choices to their places, counted in the metrics."""

    def __init__(self, places: Places, queue_timeout_s: float, metrics: Metrics) -> None:
        self.queue_timeout_s = queue_timeout_s
        self._places = places
        self._metrics = metrics

    @asynccontextmanager
    async def reserved(self, count: int) -> AsyncIterator["Ticket"]:
        """As `Places.reserved`."""
        async with self._places.reserved(count):
            yield Ticket(self)

    @asynccontextmanager
    async def place(self, timeout_s: float | None) -> AsyncIterator[None]:
        """As `Places.place`."""
        place = self._places.place(timeout_s)
        with self._metrics.waiting.track_inprogress():
            await place.__aenter__()
        try:
            with self._metrics.running.track_inprogress():
                yield
        finally:
            await place.__aexit__(None, None, None)


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
