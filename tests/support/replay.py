"""A small real HTTP server on loopback that replays given bytes, with given chunks, delays and cuts."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import orjson

RECORDINGS = Path(__file__).parent.parent / "fixtures" / "recordings"
UNTIL_THE_CLIENT_LEAVES = math.inf


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: Any  # parsed JSON, or None


@dataclass(frozen=True)
class Reply:
    """What to send: bytes are one HTTP chunk each, a number is a pause in seconds (inf: until the client leaves)."""

    pieces: Sequence[bytes | float]
    status: int = 200
    content_type: str = "text/event-stream"
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False  # close the connection without the closing chunk


@dataclass
class Replay:
    """The running server: where it is, what it was asked, and when clients left before the end."""

    url: str
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    left: asyncio.Event = field(default_factory=asyncio.Event)
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    def drop_connections(self) -> None:
        """Close every connection, as a server does with idle ones."""
        writers, self.writers = self.writers, []
        for writer in writers:
            writer.close()

    def bodies(self, path: str = "/v1/completions") -> list[Any]:
        return [request.body for request in self.requests if request.path == path]


Answer = Callable[[Request], Reply]


@asynccontextmanager
async def replaying(*answers: Reply | Answer, port: int = 0) -> AsyncIterator[Replay]:
    """Serve the answers in turn; the last one again and again. Any free port, unless one is given."""
    queue = list(answers)
    replay = Replay("")
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        replay.connections += 1
        replay.writers.append(writer)
        tasks.add(cast("asyncio.Task[None]", asyncio.current_task()))
        try:
            while (request := await _read_request(reader)) is not None:
                replay.requests.append(request)
                answer = queue.pop(0) if len(queue) > 1 else queue[0]
                reply = answer if isinstance(answer, Reply) else answer(request)
                if not await _send(reply, reader, writer, replay):
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            replay.left.set()
        except asyncio.CancelledError:  # the test is over
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    replay.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield replay
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _read_request(reader: asyncio.StreamReader) -> Request | None:
    head = await reader.readuntil(b"\r\n\r\n") if not reader.at_eof() else b""
    if not head:
        return None
    first, *lines = head.decode().split("\r\n")[:-2]
    method, path, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, value in (line.split(":", 1) for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Request(method, path, headers, orjson.loads(body) if body else None)


async def _send(reply: Reply, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, replay: Replay) -> bool:
    """True when the connection may serve another request."""
    headers = {"content-type": reply.content_type, "transfer-encoding": "chunked"} | reply.headers
    lines = [f"HTTP/1.1 {reply.status} X", *(f"{name}: {value}" for name, value in headers.items())]
    writer.write("\r\n".join([*lines, "", ""]).encode())
    for piece in reply.pieces:
        if isinstance(piece, bytes):
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            await writer.drain()
        elif await _left_within(piece, reader):
            replay.left.set()
            return False
    if reply.cut:
        return False
    writer.write(b"0\r\n\r\n")
    await writer.drain()
    return True


async def _left_within(seconds: float, reader: asyncio.StreamReader) -> bool:
    try:
        async with asyncio.timeout(None if math.isinf(seconds) else seconds):
            return await reader.read(1) == b""
    except TimeoutError:
        return False


def recorded(name: str) -> bytes:
    """One recorded answer, e.g. `vllm/raw_T1.0.json`."""
    return (RECORDINGS / name).read_bytes()


def events_of(stream: bytes) -> list[bytes]:
    """The events of a recorded stream, each with its blank line: one HTTP chunk each."""
    return [event + b"\n\n" for event in stream.split(b"\n\n") if event.strip()]


def event(payload: object) -> bytes:
    return b"data: " + (payload if isinstance(payload, bytes) else orjson.dumps(payload)) + b"\n\n"


DONE = event(b"[DONE]")


def streamed(answer: bytes) -> list[bytes]:
    """A recorded one-piece chat-shaped or legacy answer as its server would have streamed it: entry by entry."""
    whole = orjson.loads(answer)
    (choice,) = whole["choices"]
    chunks: list[Any] = [
        {"choices": [{"index": 0, "text": "", "logprobs": logprobs, "finish_reason": None}]}
        for logprobs in _entries(choice["logprobs"])
    ]
    chunks.append({"choices": [choice | {"text": "", "logprobs": None}], "usage": whole["usage"]})
    return [*map(event, chunks), DONE]


def _entries(logprobs: Any) -> Iterable[Any]:
    if logprobs is None:
        return []
    if "content" in logprobs:
        return [{"content": [entry]} for entry in logprobs["content"]]
    return [
        {"tokens": [token], "top_logprobs": [table]}
        for token, table in zip(logprobs["tokens"], logprobs["top_logprobs"], strict=True)
    ]


def json_reply(payload: object, status: int = 200, **headers: str) -> Reply:
    content = payload if isinstance(payload, bytes) else orjson.dumps(payload)
    return Reply([content], status, "application/json", headers)
