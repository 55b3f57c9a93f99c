"""From a job to bytes on the wire: whole answers and streams; a fault breaks them, a client that leaves stops them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any, Protocol

import orjson

from deltaserve.offset_models.demo.blackbox.generation.sequence import Job, Token
from deltaserve.offset_models.demo.blackbox.http.errors import ApiError
from deltaserve.offset_models.demo.blackbox.http.faults import Fault
from deltaserve.offset_models.demo.blackbox.http.service import Service
from deltaserve.offset_models.demo.blackbox.http.wire import DONE, frame

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Shape(Protocol):
    """How one route dresses the tokens of a job."""

    stream: bool

    def opening(self) -> bytes:
        """Frames before the first token."""

    def chunk(self, index: int, tokens: list[Token]) -> bytes:
        """The frame for the next tokens of a choice; also keeps count of them."""

    def closing(self) -> bytes:
        """Frames after the last token, without [DONE]."""

    def whole(self, choices: list[list[Token]]) -> bytes:
        """The answer that is not streamed."""


class Broken(Exception):
    """A fault has cut the answer; the connection must not be ended in order."""


async def answer(service: Service, job: Job, shape: Shape, fault: Fault | None, receive: Receive, send: Send) -> None:
    """Sends the answer. A client that leaves cancels the job at once; so does every other way out of here."""
    leaving = asyncio.create_task(_cancel_on_disconnect(service, job, receive))
    try:
        if shape.stream:
            await _stream(service, job, shape, fault, send)
        else:
            await _whole(service, job, shape, fault, send)
    finally:
        leaving.cancel()
        if job.open:
            service.stats.aborted_requests += 1
            service.cancel(job)
        else:
            service.stats.finished_requests += 1


async def _cancel_on_disconnect(service: Service, job: Job, receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    service.cancel(job)


async def _stream(service: Service, job: Job, shape: Shape, fault: Fault | None, send: Send) -> None:
    headers = [(b"content-type", b"text/event-stream; charset=utf-8")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    opening = shape.opening()
    if opening:
        await _send(send, opening)
    sent = 0
    async for frames in _chunks(service, job, shape, fault):
        for tokens, data in frames:
            if fault is not None and fault.breaks_at(sent + tokens - 1):
                return await _break(job, fault, data, send)
            sent += tokens
            await _send(send, data)
    if job.cancelled:
        return None
    if fault is not None and fault.breaks_at(sent):
        return await _break(job, fault, b"", send)
    ending = shape.closing() if job.failure is None else _error_frame(job.failure)
    await send({"type": "http.response.body", "body": ending + DONE, "more_body": False})
    return None


Frames = list[tuple[int, bytes]]  # tokens in it, bytes


async def _chunks(service: Service, job: Job, shape: Shape, fault: Fault | None) -> AsyncIterator[Frames]:
    """Frames as they become due; frames that are due together are sent together unless a fault counts them."""
    size = service.options.tokens_per_chunk
    positions = [0] * len(job.sequences)
    held: list[list[Token]] = [[] for _ in job.sequences]
    async for events in job.batches():
        frames: Frames = []
        for event in events:
            i = event.index
            token = event.token if fault is None else fault.damage(event.token, positions[i], service.model.vocab_size)
            positions[i] += 1
            held[i].append(token)
            if len(held[i]) >= size or token.finish_reason is not None:
                frames.append((len(held[i]), shape.chunk(i, held[i])))
                held[i] = []
        service.stats.generation_tokens_sent += sum(tokens for tokens, _ in frames)
        yield frames if fault is not None else [(0, b"".join(data for _, data in frames))] if frames else []


async def _break(job: Job, fault: Fault, data: bytes, send: Send) -> None:
    """Ends a stream as the fault wants; `data` is the frame that would have come next."""
    if fault.kind == "stall":
        await job.gone.wait()
    elif fault.kind == "truncate":
        await _send(send, data[: len(data) // 2])
    elif fault.kind == "error":
        await _send(send, _error_frame("EngineCore encountered an issue.") + DONE)
    if fault.kind in ("stall", "disconnect"):
        raise Broken
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def _error_frame(message: str) -> bytes:
    return frame(ApiError(message, status=500).body())


async def _whole(service: Service, job: Job, shape: Shape, fault: Fault | None, send: Send) -> None:
    choices: list[list[Token]] = [[] for _ in job.sequences]
    async for events in job.batches():
        for event in events:
            choice = choices[event.index]
            token = event.token
            choice.append(token if fault is None else fault.damage(token, len(choice), service.model.vocab_size))
        service.stats.generation_tokens_sent += len(events)
        if fault is not None and fault.breaks_at(max(map(len, choices)) - 1):
            return await _break_whole(job, fault, send)
    if job.cancelled:
        return None
    if job.failure is not None:
        raise ApiError(job.failure, status=500)
    return await send_json(send, 200, shape.whole(choices))


async def _break_whole(job: Job, fault: Fault, send: Send) -> None:
    """The same faults for an answer in one piece: an error status, half a body, no body, or silence."""
    if fault.kind == "error":
        raise ApiError("EngineCore encountered an issue.", status=500)
    if fault.kind == "stall":
        await job.gone.wait()
    if fault.kind in ("stall", "disconnect"):
        raise Broken
    await send_json(send, 200, b'{"id":"cmpl-0","object":"text_completion","choices":[{"ind')


async def send_json(send: Send, status: int, body: bytes, extra: list[tuple[bytes, bytes]] | None = None) -> None:
    """A whole JSON answer."""
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *(extra or [])]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def send_error(send: Send, error: ApiError) -> None:
    """An error answer, with Retry-After when the error says how long."""
    extra = [] if error.retry_after_s is None else [(b"retry-after", str(error.retry_after_s).encode())]
    await send_json(send, error.status, orjson.dumps(error.body()), extra)


async def _send(send: Send, data: bytes) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": True})


async def drain(receive: Receive) -> bytes:
    """The request's whole body."""
    parts: list[bytes] = []
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Broken
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(parts)
