"""The events of one streamed answer, as they arrive: no task runs for it, the event loop's reads fill it."""

import asyncio
from collections import deque
from dataclasses import dataclass

from deltaserve.errors import UpstreamError, UpstreamRefused, UpstreamTimeout, UpstreamUnreachable
from deltaserve.server.upstream.http.events import EventTooLarge, Framing, splitter
from deltaserve.server.upstream.http.refusals import error_from_body
from deltaserve.server.upstream.http.wire import Connection, Wire

_LARGEST_ERROR_BODY = 1 << 16
_DRAIN_S = 0.05  # a finished answer's last bytes: waiting this long for them keeps the connection reusable


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long to wait for an upstream, in seconds; tokens are events, so keep-alive comments do not count as one."""

    connect_s: float = 5.0
    first_token_s: float = 120.0  # prefill of a long prompt, or a queue
    between_tokens_s: float = 30.0
    total_s: float = 900.0  # of one call, retries included


@dataclass(frozen=True, slots=True)
class Limits:
    """What one upstream may take of us."""

    connections: int = 256
    event_bytes: int = 32 << 20  # top-k over a whole vocabulary of 152k ids is 14 MB
    events_ahead: int = 512  # read ahead of the consumer in one stream; past it the socket is left to fill
    attempts: int = 3  # of one call, before its first byte


class EventStream:
    """Payloads in `arrived`, which is true to the wire: the offset engine can start on tokens the core has not seen."""

    def __init__(
        self,
        connection: Connection,
        wire: Wire,
        timeouts: Timeouts,
        limits: Limits,
        deadline: float,
        framing: Framing = "sse",
    ) -> None:
        self.arrived: deque[bytes] = deque()
        self.began = False  # the answer's head has come: the connection was alive
        self.count = 0  # payloads so far
        self._connection: Connection | None = connection
        self._wire = wire
        self._timeouts, self._limits, self._deadline = timeouts, limits, deadline
        self._splitter = splitter(framing, limits.event_bytes)
        self._status, self._headers = 0, dict[str, str]()
        self._refused = bytearray()  # the body of an answer that is no 200
        self._error: UpstreamError | None = None
        self._ended = self._finished = self._paused = False
        self._first = True
        self._ahead = 0  # payloads read since the consumer last ran dry
        self._waiter: asyncio.Future[None] | None = None
        self._patience: asyncio.TimerHandle | None = None
        self._until = deadline

    async def wait(self) -> bool:
        """Until a payload is in `arrived`; False at a clean end. Raises UpstreamTimeout or what broke the stream."""
        while not self.arrived:
            if self._error is not None:
                raise self._error
            if self._ended:
                return False
            await self._more()
        self._first = False
        self._ahead = 0
        if self._paused and self._connection is not None:
            self._paused = False
            self._connection.resume()
        return True

    @property
    def error(self) -> UpstreamError | None:
        """What broke the answer, whether or not somebody waited for it."""
        return self._error

    def broke(self, error: UpstreamError) -> None:
        """The reader found the answer cut off, although the connection said nothing of it."""
        self._error = self._error or error

    def finish(self) -> None:
        """The answer is complete: closing may wait a moment for its last bytes instead of cutting the connection."""
        self._finished = True

    async def aclose(self) -> None:
        """Close the connection now, which stops the upstream's work, or hand it back when the answer is complete."""
        connection = self._connection
        if connection is None:
            return
        try:
            if self._finished and not self._ended:
                await self._drain(connection)
        finally:
            self._connection = None
            self._wire.release(connection)
            if self._patience is not None:
                self._patience.cancel()

    # what the connection calls

    def head(self, status: int, headers: dict[str, str]) -> None:
        self.began = True
        self._status, self._headers = status, headers

    def body(self, chunk: bytes) -> None:
        if self._status != 200:
            self._refused += chunk[: _LARGEST_ERROR_BODY - len(self._refused)]
            return
        if self._error is not None:
            return
        try:
            payloads = self._splitter.feed(chunk)
        except EventTooLarge as error:
            self._error = UpstreamUnreachable(f"The upstream sent {error}.")
            self._wake()
            return
        if payloads:
            self.arrived.extend(payloads)
            self._ahead += len(payloads)
            self.count += len(payloads)
            self._wake()
            if self._ahead >= self._limits.events_ahead and self._connection is not None:
                self._paused = True
                self._connection.pause()

    def end(self, error: UpstreamError | None) -> None:
        self._ended = True
        self._error = self._error or error or self._said_at_the_end()
        self._wake()

    def _said_at_the_end(self) -> UpstreamError | None:
        """A failing status; a cut event; or an answer that is no stream of events."""
        if self._status != 200:
            return error_from_body(self._status, bytes(self._refused), self._headers.get("retry-after"))
        rest = self._splitter.rest.strip()
        if not rest or rest.startswith(b":") or rest == b"data: [DONE]":
            return None
        if rest.startswith(b"{") and b'"choices"' in rest:
            return UpstreamRefused("The upstream answered in one piece: it does not stream completions.")
        return error_from_body(200, rest)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # waiting: one timer is kept and moved only when it would fire late

    async def _more(self) -> None:
        loop = asyncio.get_running_loop()
        patience = self._timeouts.first_token_s if self._first else self._timeouts.between_tokens_s
        self._until = min(loop.time() + patience, self._deadline)
        if self._patience is None or self._patience.when() > self._until:
            self._set_timer(loop)
        self._waiter = loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _set_timer(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._patience is not None:
            self._patience.cancel()
        self._patience = loop.call_at(self._until, self._out_of_patience, loop)

    def _out_of_patience(self, loop: asyncio.AbstractEventLoop) -> None:
        self._patience = None
        if self._waiter is None or self._waiter.done():
            return
        if loop.time() < self._until:
            self._set_timer(loop)
            return
        what = "first" if self._first else "next"
        self._waiter.set_exception(UpstreamTimeout(f"The upstream sent no {what} token in time."))

    async def _drain(self, connection: Connection) -> None:
        connection.resume()
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await asyncio.wait((self._waiter,), timeout=_DRAIN_S)
        finally:
            self._waiter = None
