"""Between calls and HTTP: what both clients share."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import httpx2 as httpx
import orjson

from deltaserve.client.address import Address
from deltaserve.client.calls import Call
from deltaserve.client.errors import BadText, ClientError, Refused, ServerFailed, Unreachable
from deltaserve.client.results import Piece
from deltaserve.server.upstream.http.events import EventSplitter, EventTooLarge

T = TypeVar("T")
CONNECT_S: Final = 5.0
IDLE_S: Final = 2.0  # after it a connection is not taken again: uvicorn closes idle ones after 5 s
MAX_EVENT_BYTES: Final = 16 * 2**20
_MALFORMED = (KeyError, IndexError, TypeError, ValueError, AttributeError)


def options(address: Address, timeout_s: float) -> dict[str, Any]:
    """Arguments of httpx.Client and httpx.AsyncClient. Redirects are not followed: the key is for one host."""
    headers = {"Authorization": f"Bearer {address.key}"} if address.key else {}
    return {
        "base_url": address.root,
        "headers": headers,
        "timeout": httpx.Timeout(timeout_s, connect=CONNECT_S),
        "limits": httpx.Limits(keepalive_expiry=IDLE_S),
        "follow_redirects": False,
        "trust_env": not address.loopback,
    }


def request_of(call: Call[Any]) -> dict[str, Any]:
    """Arguments of a client's request(). Raises BadText."""
    request: dict[str, Any] = {"method": call.method, "url": call.path, "headers": dict(call.headers)}
    if call.body is None:
        return request
    try:
        content = json.dumps(dict(call.body), ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        raise BadText("The text is not valid Unicode: it was not UTF-8 where it came from.") from None
    except ValueError:
        raise BadText("A number in the request is not finite.") from None
    return request | {"content": content, "headers": {"content-type": "application/json", **call.headers}}


def result_of(call: Call[T], response: httpx.Response) -> T:
    """The typed result. Raises Refused or ServerFailed. The response must have been read."""
    if response.status_code not in call.accepts:
        raise failure(response.status_code, response.content, response.headers)
    try:
        return call.read(orjson.loads(response.content))
    except _MALFORMED as error:
        raise ServerFailed(f"{call.path} gave an answer that cannot be read; is this a deltaserve server?") from error


def failure(status: int, body: bytes, headers: httpx.Headers) -> ClientError:
    """The exception for an answer that is none."""
    message, code = _error_of(body)
    request_id = headers.get("x-request-id")
    if status < 300 or status >= 500:
        message = message or f"The server failed (HTTP {status})."
        return ServerFailed(message, status, code, request_id, _seconds(headers.get("retry-after")))
    if status < 400:
        return Refused(f"The server redirects (HTTP {status}); give the address it redirects to.", status)
    return Refused(message or f"The server refused the request (HTTP {status}).", status, code, request_id)


class PieceReader:
    """Pieces out of the bytes of one streamed answer."""

    def __init__(self) -> None:
        self._splitter = EventSplitter(MAX_EVENT_BYTES)
        self._done = False

    def feed(self, chunk: bytes) -> Iterator[Piece]:
        """Pieces that `chunk` completes. Raises ServerFailed for an error event or one that cannot be read."""
        try:
            payloads = self._splitter.feed(chunk)
        except EventTooLarge as error:
            raise ServerFailed(f"The server sent {error}.") from error
        for payload in payloads:
            if payload == b"[DONE]":
                self._done = True
            elif (piece := _piece(payload)) is not None:
                yield piece

    def close(self) -> None:
        """Raises ServerFailed when the answer was cut short."""
        if not self._done:
            raise ServerFailed("The answer ended before it was complete.")


@contextmanager
def reaching(address: Address) -> Iterator[None]:
    """The transport's errors as Unreachable."""
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        raise Unreachable(f"No server answers at {address.root}; is it running?") from error
    except httpx.TimeoutException as error:
        raise Unreachable(f"{address.root} did not answer in time.") from error
    except httpx.TransportError as error:
        raise Unreachable(f"The connection to {address.root} broke ({type(error).__name__}).") from error


def _piece(payload: bytes) -> Piece | None:
    try:
        event = orjson.loads(payload)
        if "error" not in event:
            return Piece.read(event)
    except _MALFORMED as error:
        raise ServerFailed("The server sent an event that cannot be read.") from error
    message, code = _error_of(payload)
    raise ServerFailed(message or "The server failed in the middle of its answer.", code=code)


def _error_of(body: bytes) -> tuple[str | None, str | None]:
    """(message, code) of OpenAI's error body, or of the bare string that some servers send."""
    try:
        error = orjson.loads(body)["error"]
        if isinstance(error, str):
            return error, None
        return str(error["message"]), error.get("code") and str(error["code"])
    except _MALFORMED:
        return None, None


def _seconds(header: str | None) -> float | None:
    try:
        return None if header is None else float(header)
    except ValueError:
        return None  # a date
