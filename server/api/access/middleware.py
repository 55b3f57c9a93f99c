"""Plain ASGI layers around every route: request id, access log, last resort for defects and at the end, body limits."""

import asyncio
import re
import traceback
import uuid
from contextlib import suppress
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deltaserve.errors import BadRequest, DeltaserveError, PayloadTooLarge, RequestTimedOut, Unavailable
from deltaserve.server.api.access.rates import rate_headers
from deltaserve.server.api.errors import error_event, error_response, speaks_anthropic, unexpected
from deltaserve.server.api.requests.naming import is_unicode
from deltaserve.server.observability.facts import describe_request
from deltaserve.server.observability.logs import log_request
from deltaserve.server.observability.records import RequestRecord
from deltaserve.server.observability.spans import NOTHING, Span, Tracer, traced
from deltaserve.server.serving.service import Serving

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_LENGTH_DIGITS = 19
_UNTRACED = ("/health", "/metrics")  # what asks every few seconds whether all is well
CLIENT_CLOSED = 499  # nginx's status for a client that left; seen in logs only
_LEAST_BODY_RATE = 10_000  # bytes a second, past the body's timeout


class RequestContext:
    """Outermost layer: gives each request its id and record, and logs one line when it ends."""

    def __init__(self, app: ASGIApp, serving: Serving, log: Any, tracer: Tracer | None = None) -> None:
        self._app = app
        self._serving = serving
        self._log = log
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif scope["path"].startswith(_UNTRACED):
            await self._request(scope, receive, send, NOTHING)
        else:
            with traced(self._tracer, scope["method"], Headers(scope=scope)) as span:
                await self._request(scope, receive, send, span)

    async def _request(self, scope: Scope, receive: Receive, send: Send, span: Span) -> None:
        record = RequestRecord(_request_id(Headers(scope=scope)))
        reply = _Reply(send, record, self._serving, also="request-id" if speaks_anthropic(scope) else None)
        scope.setdefault("state", {}).update(record=record, send=reply)
        try:
            await self._routed(scope, receive, reply)
        except asyncio.CancelledError:
            with suppress(asyncio.CancelledError):  # a second one: there is no time left
                await reply.close(self._end(record), scope, receive)
        except Exception as error:  # noqa: BLE001  (the last resort: logged, and answered with a 500)
            record.error = type(error).__name__
            self._log.error("defect", id=record.id, error=record.error, at=_where(error))
            if reply.status is None:
                await reply.close(unexpected(), scope, receive)
        finally:
            status = reply.status or CLIENT_CLOSED
            self._serving.metrics.count_request(record, status)
            log_request(self._log, record, scope["method"], _route(scope), status)
            describe_request(span, record, scope["method"], _route(scope), status)

    async def _routed(self, scope: Scope, receive: Receive, reply: Send) -> None:
        if is_unicode(scope["path"]):
            await self._app(scope, receive, reply)
        else:
            await error_response(BadRequest("The path is not valid Unicode."), scope)(scope, receive, reply)

    def _end(self, record: RequestRecord) -> DeltaserveError:
        """Requests are cancelled from outside when the server ends, and by nobody else."""
        error = Unavailable("The server is shutting down.", retry_after_s=self._serving.settings.retry_after_s)
        record.error = error.code
        return error


class _Reply:
    """`send` that adds what every answer has, and remembers how far this one is."""

    def __init__(self, send: Send, record: RequestRecord, serving: Serving, also: str | None) -> None:
        self._send = send
        self._record = record
        self._also = also  # under which name Anthropic's clients look for the id
        self._serving = serving
        self.status: int | None = None
        self._events = self._complete = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = self._with_headers(message)
            await self._send(message)
            self.status = message["status"]
            self._events = headers.get("content-type", "").startswith("text/event-stream")
        else:
            await self._send(message)
            self._complete = not message.get("more_body", False)

    def _with_headers(self, message: Message) -> MutableHeaders:
        headers = MutableHeaders(scope=message)
        headers["x-request-id"] = self._record.id
        if self._also is not None:
            headers[self._also] = self._record.id
        headers.update(rate_headers(self._record.standing))
        if self._serving.draining:
            headers["connection"] = "close"  # the next request is for another server
        return headers

    async def close(self, error: DeltaserveError, scope: Scope, receive: Receive) -> None:
        """Ends an answer that will not be finished: as an error of its own, or as a stream's last event."""
        if self.status is None:
            await error_response(error, scope)(scope, receive, self)
        elif self._events and not self._complete:
            last = scope["state"].get("error_event", error_event)  # the route's own, where it has one
            await self({"type": "http.response.body", "body": last(error), "more_body": False})


class BodyLimit:
    """Reads the body before the app does, up to `max_bytes`; beyond that 413, and 408 when it comes too slowly."""

    def __init__(self, app: ASGIApp, max_bytes: int, timeout_s: float) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS"):
            return await self._app(scope, receive, send)
        try:
            body = await self._read(scope, receive)
        except (PayloadTooLarge, BadRequest) as error:
            scope["state"]["record"].error = error.code
            return await error_response(error, scope)(scope, receive, send)
        except TimeoutError:
            return await self._too_slow(scope, receive, send)
        if body is not None:
            scope["state"]["record"].body_bytes = len(body)
            await self._app(scope, _replay(body, receive), send)
        return None

    async def _read(self, scope: Scope, receive: Receive) -> bytes | None:
        """The whole body; None when the client left while sending it. Raises TimeoutError."""
        if _declared(scope) > self._max_bytes:
            raise self._too_large()
        parts: list[bytes] = []
        size, more = 0, True
        until = asyncio.get_running_loop().time() + self._timeout_s
        async with asyncio.timeout_at(until) as clock:
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return None
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                more = message.get("more_body", False)
                if size > self._max_bytes:
                    raise self._too_large()
                clock.reschedule(until + size / _LEAST_BODY_RATE)
        return b"".join(parts)

    async def _too_slow(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The connection ends with the answer: the rest of the body would be read as the next request."""
        error = RequestTimedOut(f"The body was not complete in time: {self._timeout_s:g} s, and more for a large one.")
        scope["state"]["record"].error = error.code
        response = error_response(error, scope)
        response.headers["connection"] = "close"
        await response(scope, receive, send)

    def _too_large(self) -> PayloadTooLarge:
        return PayloadTooLarge(f"The body is larger than the {self._max_bytes:,} bytes accepted here.")


def _declared(scope: Scope) -> int:
    """Raises BadRequest for what is no length: thousands of zeros too, which Python would refuse to read."""
    length = Headers(scope=scope).get("content-length", "0")
    if not length.isascii() or not length.isdigit() or len(length) > _LENGTH_DIGITS:
        raise BadRequest(f"Content-Length is not a number of at most {_LENGTH_DIGITS} digits.")
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
