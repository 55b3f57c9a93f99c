"""The way of choices to their places, counted in the metrics."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from deltaserve.server.observability.metrics import Metrics
from deltaserve.server.observability.spans import span
from deltaserve.server.serving.admission.clients import Client
from deltaserve.server.serving.admission.places import Places, Reservation


class Gate:
    """Before the places of the server, or of all its processes."""

    def __init__(self, places: Places, queue_timeout_s: float, metrics: Metrics) -> None:
        self.queue_timeout_s = queue_timeout_s
        self.places = places
        self._metrics = metrics

    @asynccontextmanager
    async def reserved(self, client: Client, count: int, prompt_tokens: int = 0) -> AsyncIterator["Ticket"]:
        """As `Places.reserved`."""
        async with self.places.reserved(client, count, prompt_tokens) as reservation:
            yield Ticket(reservation, self.queue_timeout_s, self._metrics)


class Ticket:
    """One request's right to wait. Its first choice waits for the queue timeout; once that runs, the rest queue up."""

    def __init__(self, reservation: Reservation, queue_timeout_s: float, metrics: Metrics) -> None:
        self.reservation = reservation
        self._queue_timeout_s = queue_timeout_s
        self._metrics = metrics
        self._first = True
        self._opened = asyncio.Event()

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """As `Reservation.place`."""
        first, self._first = self._first, False
        if not first:
            await self._opened.wait()
        place, since = self.reservation.place(self._queue_timeout_s if first else None), time.perf_counter()
        with span("queue"), self._metrics.waiting.track_inprogress():
            await place.__aenter__()
        self._metrics.queue_time.observe(time.perf_counter() - since)
        self._opened.set()
        try:
            with self._metrics.running.track_inprogress():
                yield
        finally:
            await place.__aexit__(None, None, None)
