"""What one connection may cost: open connections, the time of a header, bytes that nobody takes.

uvicorn bounds idle keep-alive and nothing else: a header that never ends or a client that never reads would hold its
connection, and what hangs on it, for ever. The time of a body is bounded where the body is read (`api.middleware`).
"""

import http
import socket
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any

from deltaserve.errors import BadRequest, DeltaserveError, HeaderTooLarge, RequestTimedOut, Unavailable
from deltaserve.server.api.errors import error_body, error_headers
from deltaserve.server.settings import Settings

_MAX_HEADER_BYTES = 65_536
# In the kernel, for one client: Linux would grow it to 4 MB before a client that reads nothing is noticed.
_SEND_BUFFER_BYTES = 131_072
_MAX_AHEAD = 100  # requests sent on one connection before the first of them is answered


@dataclass(frozen=True, slots=True)
class Bounds:
    """What every connection of a server is held to; `cut` hears why one was closed."""

    max_connections: int
    header_timeout_s: float
    write_timeout_s: float
    retry_after_s: float
    cut: Callable[[str], None]

    @classmethod
    def of(cls, settings: Settings, cut: Callable[[str], None]) -> "Bounds":
        return cls(
            settings.max_connections, settings.header_timeout_s, settings.write_timeout_s, settings.retry_after_s, cut
        )

    @property
    def look_every_s(self) -> float:
        """How often each connection is looked at."""
        return min(1.0, self.header_timeout_s / 4, self.write_timeout_s / 4)


def bounded(protocol: type[Any], bounds: Bounds) -> type[Any]:
    """uvicorn's `protocol`, over httptools or h11, held to `bounds`."""
    return type(f"Bounded{protocol.__name__}", (_Bounded, protocol), {"bounds": bounds})


class _Bounded:
    """Goes before one of uvicorn's HTTP protocols, whose attributes it reads."""

    bounds: Bounds
    cycle: Any  # the newest request and its response
    connections: set[Any]
    timeout_keep_alive_task: Any  # set while the connection is idle and uvicorn will close it
    transport: Any
    flow: Any

    def connection_made(self, transport: Any) -> None:
        self._since = monotonic()  # when the header that is waited for began
        self._begun, self._in_header, self._header_bytes = False, False, 0
        self._unsent, self._taken = 0, self._since  # bytes not taken when last looked at; when some were taken last
        super().connection_made(transport)  # type: ignore[misc]
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        if len(self.connections) > self.bounds.max_connections and not self._made_room():
            self.bounds.cut("full")
            self.refuse(Unavailable("The server has as many connections as it takes."))

    def data_received(self, data: bytes) -> None:
        if self.timeout_keep_alive_task is not None:  # the first bytes of another request
            self._since = monotonic()
        self._begun = True
        if self._in_header:
            self._header_bytes += len(data)
        super().data_received(data)  # type: ignore[misc]
        if self._in_header and self._header_bytes > _MAX_HEADER_BYTES:
            self.bounds.cut("header")
            self.refuse(HeaderTooLarge(f"The header is longer than the {_MAX_HEADER_BYTES:,} bytes accepted here."))
        elif len(getattr(self, "pipeline", ())) > _MAX_AHEAD:
            self.bounds.cut("ahead")
            self.transport.abort()

    # httptools only; h11 bounds the header itself.

    def on_message_begin(self) -> None:
        self._in_header, self._header_bytes = True, 0
        super().on_message_begin()  # type: ignore[misc]

    def on_headers_complete(self) -> None:
        self._in_header = False
        super().on_headers_complete()  # type: ignore[misc]

    def resume_writing(self) -> None:
        self._taken = monotonic()
        super().resume_writing()  # type: ignore[misc]

    def look(self) -> None:
        """Closes the connection when it is past a bound."""
        now = monotonic()
        if self._stalled(now):
            self.bounds.cut("write")
            self.transport.abort()  # close would wait for the client
        elif self.waiting and now - self._since > self.bounds.header_timeout_s:
            self.bounds.cut("header")
            self._give_up()

    @property
    def idle(self) -> bool:
        """No request is being answered."""
        return self.cycle is None or bool(self.cycle.response_complete)

    @property
    def free(self) -> bool:
        """Nothing is lost with it: it has been answered, or never sent a request in full."""
        return (self.idle or self._in_body) and not self.unsent and not self.transport.is_closing()

    @property
    def waiting(self) -> bool:
        """A header is due or has begun; between two requests uvicorn's own clock runs instead."""
        return self.idle and self.timeout_keep_alive_task is None and not self.transport.is_closing()

    @property
    def unsent(self) -> int:
        """Bytes that the client has not taken, nor the kernel for it."""
        return int(self.transport.get_write_buffer_size())

    def _stalled(self, now: float) -> bool:
        """Whether bytes wait and none was taken for too long; any progress starts the time anew."""
        before, self._unsent = self._unsent, self.unsent
        growing = not (self.idle or self.flow.write_paused or self.transport.is_closing())
        if not self._unsent or self._unsent < before or growing or not before:
            self._taken = now
        return bool(now - self._taken > self.bounds.write_timeout_s)

    def _give_up(self) -> None:
        """Says why only where an answer is expected: in a first request that has begun."""
        if self.cycle is None and self._begun:
            self.refuse(RequestTimedOut(f"The header was not complete after {self.bounds.header_timeout_s:g} s."))
        else:
            self.transport.close()

    def _made_room(self) -> bool:
        """Closes the connection other than this one that has been longest without a request to answer."""
        candidates = [one for one in self.connections if one is not self and one.free]
        if not candidates:
            return False
        oldest = min(candidates, key=lambda one: (one.timeout_keep_alive_task is not None, one._since))
        self.bounds.cut("full")
        oldest.transport.abort()
        return True

    def send_400_response(self, _: str) -> None:
        """uvicorn's answer to what is no HTTP, in the house's shape."""
        self.refuse(BadRequest("This is not an HTTP request that can be read."))

    def refuse(self, error: DeltaserveError) -> None:
        """The error and the end of the connection; the end alone where an answer is due or has begun."""
        if error.retryable:
            error.retry_after_s = self.bounds.retry_after_s
        if self.idle or self._in_body:
            self.transport.write(_response(error))
        self.transport.close()

    @property
    def _in_body(self) -> bool:
        """The one request that there is has not been sent in full, nor answered at all."""
        return bool(self.cycle.more_body) and not self.cycle.response_started and not getattr(self, "pipeline", ())


def _response(error: DeltaserveError) -> bytes:
    body = error_body(error)
    headers = {
        **error_headers(error),
        "x-request-id": f"req-{uuid.uuid4().hex}",
        "content-type": "application/json",
        "content-length": str(len(body)),
        "connection": "close",
    }
    status = f"HTTP/1.1 {error.status} {http.HTTPStatus(error.status).phrase}"
    lines = [status, *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    return "\r\n".join(lines).encode("ascii") + body
