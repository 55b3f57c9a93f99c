"""What an upstream's error answer means to us.

Upstreams quote the prompt in their error messages, so their words are never passed on: only the status, the type
or code when it looks like a name, and figures out of message shapes that are known.
"""

import math
import re
import time
from email.utils import parsedate_to_datetime
from typing import Any

import orjson

from deltaserve.errors import UpstreamBusy, UpstreamError, UpstreamRefused, UpstreamTimeout, UpstreamUnreachable

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,47}")

# Message shapes whose figures are harmless: what is matched, and the sentence made of them.
_FIGURES = (
    (
        re.compile(r"request \((\d+) tokens\) exceeds the available context size \((\d+) tokens\)"),
        "its context is {1} tokens",
    ),
    (re.compile(r"maximum context length is (\d+) tokens"), "its context is {0} tokens"),
    (re.compile(r"Token id (\d+) is out of vocabulary"), "token id {0} is out of its vocabulary"),
)
_LARGEST_K = re.compile(
    r"(?:max allowed:|at most|less than or equal to|<=|between 0 and|maximum(?: value)?(?: of| is)?:?) ?(\d+)"
)
_UNDERSTOOD_K = re.compile(r"logprobs of (\d+)")
_LOADING = "unavailable_error"  # llama.cpp's
_BUSY = (409, 429, 503, 529)  # 409: a state that passes, as a model that is being changed; 529: overloaded
_ADVICE = {
    401: "check the upstream key",
    402: "the account there has no balance",
    403: "check the upstream key",
    404: "check the upstream address and model",
}


class Restarting(UpstreamBusy):
    """UpstreamBusy as nobody says it of a server that is merely busy: it is gone, or loads its model."""


class Refusal(UpstreamRefused):
    """UpstreamRefused with the figures that the start-up probe reads."""

    def __init__(self, message: str, *, http_status: int, largest_k: int | None, understood_k: int | None) -> None:
        super().__init__(message)
        self.http_status = http_status
        self.largest_k = largest_k  # the top-k limit that the message names
        self.understood_k = understood_k  # what the upstream understood as asked: its vocabulary when −1 was


def error_of(payload: object) -> dict[str, Any] | None:
    """The error in a parsed JSON answer as {message, type, code}, or None when it is no error.

    Shapes: {"error": {...}}, {"error": "text"}, flat {"object": "error", ...}, {"detail": ...}.
    """
    if not isinstance(payload, dict):
        return None
    error = payload.get("error")
    if isinstance(error, dict):
        return error
    if error:
        return {"message": str(error), "type": payload.get("error_type")}
    if payload.get("object") == "error":
        return payload
    return {"message": str(payload["detail"])} if "detail" in payload and "choices" not in payload else None


def error_from_body(status: int, body: bytes, retry_after: str | None = None) -> UpstreamError:
    """The exception for an answer with a failing HTTP status; `body` may be JSON, NDJSON or anything."""
    return error_from(status, _parsed(body) or {}, retry_after)


def error_from(status: int, error: dict[str, Any], retry_after: str | None = None) -> UpstreamError:
    """The exception for an upstream's {message, type, code}; `status` 200 is an error in the middle of a stream."""
    code = error.get("code")
    if status == 200 and isinstance(code, int) and 400 <= code < 600:
        status = code
    cause = _cause(status, error)
    if status == 408:
        return UpstreamTimeout(f"The upstream gave up waiting ({cause}).")
    if status in _BUSY:
        kind = Restarting if status == 503 and (not error or error.get("type") == _LOADING) else UpstreamBusy
        return kind(f"The upstream is too busy ({cause}).", retry_after_s=_seconds(retry_after))
    if 300 <= status < 400:
        return UpstreamRefused(f"The upstream redirects ({cause}); configure the address it redirects to.")
    if not 400 <= status < 500:
        return UpstreamUnreachable(f"The upstream failed ({cause}).")
    return _refusal(status, cause, str(error.get("message", "")))


def _refusal(status: int, cause: str, message: str) -> Refusal:
    limit = _figure(_LARGEST_K, message)
    reason = (
        f"it gives at most {limit} logprobs" if limit is not None else _known_reason(message) or _ADVICE.get(status)
    )
    return Refusal(
        f"The upstream refused the request ({cause})" + (f": {reason}." if reason else "."),
        http_status=status,
        largest_k=limit,
        understood_k=_figure(_UNDERSTOOD_K, message),
    )


def _figure(shape: re.Pattern[str], message: str) -> int | None:
    match = shape.search(message) if "logprobs" in message else None
    return int(match[1]) if match else None


def _known_reason(message: str) -> str | None:
    return next((words.format(*match.groups()) for shape, words in _FIGURES if (match := shape.search(message))), None)


def _cause(status: int, error: dict[str, Any]) -> str:
    """`HTTP 400, BadRequestError`: names only, never the message."""
    names = (error.get("type"), error.get("param"), error.get("code"))
    plain = [name for name in names if isinstance(name, str) and _NAME.fullmatch(name)]
    return ", ".join([f"HTTP {status}" if status != 200 else "in the middle of its answer", *dict.fromkeys(plain)])


def _seconds(retry_after: str | None) -> float | None:
    """Retry-After in seconds, which may also be a date; None where it is neither."""
    try:
        seconds = float(retry_after or "")
    except ValueError:
        seconds = _until(retry_after)
    return None if math.isnan(seconds) else min(max(seconds, 0.0), 3600.0)


def _until(date: str | None) -> float:
    """Seconds until an HTTP date; NaN where it is none."""
    try:
        return parsedate_to_datetime(date or "").timestamp() - time.time()
    except (ValueError, TypeError):
        return math.nan


def _parsed(body: bytes) -> dict[str, Any] | None:
    """The error of a JSON body, or of the last line that has one (NDJSON)."""
    for text in (body, *reversed(body.splitlines())):
        try:
            if (error := error_of(orjson.loads(text))) is not None:
                return error
        except orjson.JSONDecodeError:
            continue
    return None
