"""Answers that stop their work when the client leaves: before the first token, while streaming, or waited for whole."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from typing import Any, TypeVar

import anyio
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from deltaserve.errors import DeltaserveError
from deltaserve.server.api.access.middleware import CLIENT_CLOSED
from deltaserve.server.api.errors import error_event, unexpected

T = TypeVar("T")

DONE = b"data: [DONE]\n\n"
_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}


class ClientGone(Exception):
    """The client left before there was anything to send."""


async def whole_response(request: Request, work: Coroutine[Any, Any, bytes]) -> Response:
    """The JSON document that `work` makes; `work` is cancelled when the client leaves."""
    try:
        return Response(await unless_gone(work, request.receive), media_type="application/json")
    except ClientGone:
        return Response(status_code=CLIENT_CLOSED)


async def stream_response(request: Request, frames: AsyncGenerator[bytes, None]) -> Response:
    """The frames as server-sent events. An error before the first one is raised and so has its own HTTP status."""
    try:
        first = await unless_gone(anext(frames), request.receive)
    except ClientGone:
        await frames.aclose()
        return Response(status_code=CLIENT_CLOSED)
    return EventStream(request, first, frames)


class EventStream(StreamingResponse):
    """A streaming response that closes its generator however it ends, with few steps between a frame and the wire."""

    media_type = "text/event-stream"

    def __init__(self, request: Request, first: bytes, frames: AsyncGenerator[bytes, None]) -> None:
        super().__init__(frames, headers=_HEADERS)
        self._request, self._first, self._frames = request, first, frames

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            with anyio.CancelScope(shield=True):
                await self._frames.aclose()

    async def stream_response(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        send = self._request.state.send  # the layers between look at the start alone
        await send({"type": "http.response.body", "body": self._first, "more_body": True})
        while (frame := await self._next()) is not None:
            await send({"type": "http.response.body", "body": frame, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _next(self) -> bytes | None:
        """The next frame, None at the end. A failure is the route's error event, after which there is no [DONE]."""
        try:
            return await anext(self._frames, None)
        except DeltaserveError as known:
            error = known
        except Exception as defect:  # noqa: BLE001  (the status line is gone: log it and end the stream with an error)
            error = unexpected()
            self._request.app.state.log.error("defect", id=self._request.state.record.id, error=type(defect).__name__)
        self._request.state.record.error = error.code or error.type
        return bytes(getattr(self._request.state, "error_event", error_event)(error))


async def unless_gone(work: Coroutine[Any, Any, T], receive: Receive) -> T:
    """The result of `work`. Raises ClientGone, with `work` cancelled and finished, when the client leaves first."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientGone
    finally:
        task.cancel()
        gone.cancel()
        with anyio.CancelScope(shield=True):
            await asyncio.gather(task, gone, return_exceptions=True)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
