"""Streamed POSTs over HTTP/1.1 connections of our own, because every token is one small read.

Measured at one event a read: the general-purpose client spends some 250 µs of CPU on each, this some 40. It knows only
what a streamed answer needs: one request at a time on a connection, which is given back when the answer was complete.
"""

import asyncio
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Protocol, cast

import httptools
import httpx2 as httpx

from deltaserve.errors import UpstreamError, UpstreamUnreachable
from deltaserve.server.upstream.http.throttle import OverLimit

NO_MORE: Final[Mapping[str, str]] = MappingProxyType({})


class Sink(Protocol):
    """Where an answer goes, from the event loop's callbacks."""

    def head(self, status: int, headers: dict[str, str]) -> None: ...

    def body(self, chunk: bytes) -> None: ...

    def end(self, error: UpstreamError | None) -> None: ...


class Connection(asyncio.Protocol):
    """One connection; `sink` is the answer under way, None while idle."""

    def __init__(self) -> None:
        self.used = False
        self._wire: asyncio.Transport
        self._sink: Sink | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._headers: dict[str, str] = {}
        self._began = False
        self._reusable = False

    @property
    def reusable(self) -> bool:
        """Whether the last answer was complete and the server keeps the connection."""
        return self._reusable and not self._wire.is_closing()

    def send(self, request: bytes, sink: Sink) -> None:
        """Send a whole request; the answer goes to `sink`."""
        self._sink = sink
        self._parser = httptools.HttpResponseParser(self)
        self._headers = {}
        self._began = self._reusable = False
        self._wire.write(request)

    def abort(self) -> None:
        """Close at once; nothing more reaches the sink."""
        self._sink = None
        self._wire.abort()

    def pause(self) -> None:
        self._wire.pause_reading()

    def resume(self) -> None:
        if not self._wire.is_closing():
            self._wire.resume_reading()

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._wire = cast("asyncio.Transport", transport)  # uvloop's is one without saying so

    def data_received(self, data: bytes) -> None:
        if self._sink is None or self._parser is None:
            self._wire.abort()  # nothing was asked: whatever this is, it must not become the next answer
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._finish(UpstreamUnreachable("The upstream answered something that is not HTTP."))
            self._wire.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        until_close = self._began and not self._headers.keys() & {"content-length", "transfer-encoding"}
        broken = UpstreamUnreachable("The connection to the upstream broke.")
        self._finish(None if until_close and exc is None else broken)
        self._parser = None  # it holds our methods: else both, and the socket's buffers, wait for a search for circles

    # the parser's side

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self._began = self.used = True
        if self._sink is not None and self._parser is not None:
            self._sink.head(self._parser.get_status_code(), self._headers)

    def on_body(self, body: bytes) -> None:
        if self._sink is not None:
            self._sink.body(body)

    def on_message_complete(self) -> None:
        self._reusable = self._parser is not None and self._parser.should_keep_alive()
        self._finish(None)

    def _finish(self, error: UpstreamError | None) -> None:
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.end(error)


class Wire:
    """Connections to one server: opened when needed, kept when idle, never more than `most` at work."""

    def __init__(self, root: httpx.URL, headers: dict[str, str], connect_s: float, most: int) -> None:
        self._root, self._connect_s, self._most = root, connect_s, most
        self._idle: list[Connection] = []
        self._working = 0
        lines = {"host": root.netloc.decode("ascii"), "content-type": "application/json"} | headers
        self._head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self._tls = httpx.create_ssl_context(trust_env=False) if root.scheme == "https" else None

    def request(self, path: str, body: bytes, headers: Mapping[str, str] = NO_MORE) -> bytes:
        """The bytes of one POST, with these headers beside those of every call."""
        target = self._root.raw_path.decode("ascii").rstrip("/") + path
        more = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = f"POST {target} HTTP/1.1\r\n{self._head}{more}content-length: {len(body)}\r\n\r\n"
        return head.encode("latin-1") + body

    async def acquire(self) -> Connection:
        """An idle connection or a new one. Raises OverLimit, UpstreamUnreachable."""
        if self._working >= self._most:
            raise OverLimit("All connections to the upstream are in use.")
        self._working += 1
        while self._idle:
            if (connection := self._idle.pop()).reusable:
                return connection
        try:
            return await self._connect()
        except BaseException:
            self._working -= 1
            raise

    def release(self, connection: Connection) -> None:
        """Done with it: kept when its answer was complete, closed at once otherwise."""
        self._working -= 1
        if connection.reusable:
            self._idle.append(connection)
        else:
            connection.abort()

    def close(self) -> None:
        while self._idle:
            self._idle.pop().abort()

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        port = self._root.port or (443 if self._tls else 80)
        try:
            async with asyncio.timeout(self._connect_s):
                _, connection = await loop.create_connection(Connection, self._root.host, port, ssl=self._tls)
        except (OSError, TimeoutError):  # refused, no such name, no route, a certificate that does not hold
            raise UpstreamUnreachable("The upstream cannot be reached.") from None
        return connection
