"""Plain ASGI layers around every route: request id, access log, last resort for defects, body limit."""

import re
import traceback
import uuid
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.api.errors import error_response, unexpected
from server.errors import BadRequest, PayloadTooLarge
from server.telemetry import Metrics, RequestRecord, log_request

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
CLIENT_CLOSED = 499  # nginx's status for a client that left; seen in logs only


class RequestContext:
    """Outermost layer: gives each request its id and record, and logs one line when it ends."""

    def __init__(self, app: ASGIApp, metrics: Metrics, log: Any) -> None:
        self._app = app
        self._metrics = metrics
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        record = RequestRecord(_request_id(Headers(scope=scope)))
        scope.setdefault("state", {})["record"] = record
        reply = _Reply(send, record.id)
        try:
            await self._app(scope, receive, reply)
        except Exception as error:  # noqa: BLE001  (the last resort: logged, and answered with a 500)
            record.error = type(error).__name__
            self._log.error("defect", id=record.id, error=record.error, at=_where(error))
            if reply.status is None:
                await error_response(unexpected())(scope, receive, reply)
        finally:
            status = reply.status or CLIENT_CLOSED
            self._metrics.responses.labels(str(status)).inc()
            log_request(self._log, record, scope["method"], _route(scope), status)


class _Reply:
    """`send` that adds the request id and remembers the status."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self._request_id = request_id
        self.status: int | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            MutableHeaders(scope=message)["x-request-id"] = self._request_id
        await self._send(message)


class BodyLimit:
    """Reads the body before the app does, up to `max_bytes`; beyond that 413."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS"):
            return await self._app(scope, receive, send)
        try:
            body = await self._read(scope, receive)
        except (PayloadTooLarge, BadRequest) as error:
            scope["state"]["record"].error = error.code
            return await error_response(error)(scope, receive, send)
        if body is not None:
            await self._app(scope, _replay(body, receive), send)
        return None

    async def _read(self, scope: Scope, receive: Receive) -> bytes | None:
        """The whole body; None when the client left while sending it."""
        if _declared(scope) > self._max_bytes:
            raise self._too_large()
        parts: list[bytes] = []
        size, more = 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            more = message.get("more_body", False)
            if size > self._max_bytes:
                raise self._too_large()
        return b"".join(parts)

    def _too_large(self) -> PayloadTooLarge:
        return PayloadTooLarge(f"The body is larger than the {self._max_bytes:,} bytes accepted here.")


def _declared(scope: Scope) -> int:
    length = Headers(scope=scope).get("content-length", "0")
    if not length.isascii() or not length.isdigit():
        raise BadRequest("Content-Length is not a number.")
    return int(length)


def _replay(body: bytes, receive: Receive) -> Receive:
    """`receive` that gives the body first and then whatever the client does next (leaving, that is)."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return messages.pop() if messages else await receive()

    return replayed


def _request_id(headers: Headers) -> str:
    given = headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else f"req-{uuid.uuid4().hex}"


def _route(scope: Scope) -> str:
    """The route's template, not the path: a path may hold anything."""
    return getattr(scope.get("route"), "path", "unmatched")


def _where(error: Exception) -> list[str]:
    """File and line of each frame, without source lines or values."""
    return [f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
