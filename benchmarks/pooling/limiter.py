"""A hosted API's rate limit in front of a black box: a proxy that answers some calls 429 with Retry-After."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

from deltaserve.offset_models.demo.process import HOST

RETRY_AFTER_S: Final = 1
_ON_THE_WIRE_S: Final = 0.2  # a call may have left before the refusal of another one was read, on a busy machine
_REFUSAL: Final = b'{"error":{"message":"Rate limit reached.","type":"rate_limit_error","code":"rate_limit_exceeded"}}'
_CHUNK: Final = 1 << 16

Allow = Callable[[], bool]


@dataclass(slots=True)
class Limiter:
    """What the proxy has seen. Only generation counts."""

    port: int
    allow: Allow
    accepted: int = 0
    refused: int = 0
    early: int = 0  # calls that came before the Retry-After of an earlier refusal was over
    open: int = 0  # calls under way
    on: bool = False
    _refused_at: float = -1e9
    _until: float = -1e9
    _connections: set["asyncio.Task[None]"] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._connections.add(task)
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while request := await _request(reader):
                if self.on and request.startswith(b"POST /v1/completions") and not self._admitted():
                    writer.write(_refusal())
                    await writer.drain()
                else:
                    await self._passed_on(request, reader, writer)
                    break
        writer.close()

    async def _passed_on(self, request: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        generates = request.startswith(b"POST /v1/completions")
        self.open += generates
        try:
            await _forward(request, self.port, reader, writer)
        finally:
            self.open -= generates

    def close(self) -> None:
        for task in self._connections:
            task.cancel()

    def _admitted(self) -> bool:
        now = time.monotonic()
        self.early += self._refused_at + _ON_THE_WIRE_S < now < self._until
        if self.allow():
            self.accepted += 1
            return True
        self.refused += 1
        self._refused_at, self._until = now, now + RETRY_AFTER_S
        return False


def every_second() -> Allow:
    """Half of all calls."""
    calls = iter(range(1 << 62))
    return lambda: next(calls) % 2 == 0


@dataclass(slots=True)
class PerSecond:
    """As many calls a second as `rate`, up to `burst` saved up."""

    rate: float
    burst: float
    _level: float = 0.0
    _at: float = field(default_factory=time.monotonic)

    def __call__(self) -> bool:
        now = time.monotonic()
        self._level, self._at = min(self._level + self.rate * (now - self._at), self.burst), now
        if self._level < 1.0:
            return False
        self._level -= 1.0
        return True


@asynccontextmanager
async def limited(port: int, allow: Allow) -> AsyncIterator[tuple[str, Limiter]]:
    """The proxy's address, and the proxy."""
    limiter = Limiter(port, allow)
    server = await asyncio.start_server(limiter.serve, HOST, 0)
    try:
        yield f"http://{HOST}:{server.sockets[0].getsockname()[1]}", limiter
    finally:
        server.close()
        limiter.close()


async def _request(reader: asyncio.StreamReader) -> bytes:
    """Head and body of the next one; empty at the end."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""
    lines = head.lower().split(b"\r\n")
    length = next((int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length")), 0)
    return head + await reader.readexactly(length)


def _refusal() -> bytes:
    head = f"HTTP/1.1 429 Too Many Requests\r\nretry-after: {RETRY_AFTER_S}\r\ncontent-type: application/json\r\n"
    return head.encode() + b"content-length: %d\r\n\r\n" % len(_REFUSAL) + _REFUSAL


async def _forward(request: bytes, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Its answer, piece by piece; ends when either side does."""
    answers, asks = await asyncio.open_connection(HOST, port)
    asks.write(request.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n", 1))
    leaving = asyncio.create_task(reader.read(1))
    try:
        while True:
            piece = asyncio.create_task(answers.read(_CHUNK))
            await asyncio.wait({piece, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not piece.done():
                piece.cancel()
                return
            if not piece.result():
                return
            writer.write(piece.result())
            await writer.drain()
    finally:
        leaving.cancel()
        asks.close()
