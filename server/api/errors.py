"""Errors on the wire: OpenAI's body, Anthropic's on its routes; Retry-After and x-should-retry."""

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Scope

from deltaserve.errors import BadRequest, DeltaserveError
from deltaserve.server.api.requests.naming import MAX_NAME, plain
from deltaserve.server.api.requests.not_built import not_built

_ANTHROPIC: Final = "/v1/messages"
_ANTHROPIC_TYPES: Final[Mapping[int, str]] = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "invalid_request_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    431: "invalid_request_error",
    503: "overloaded_error",
    504: "timeout_error",
}
_LONGEST_SPREAD_S: Final = 5.0  # clients obey up to a minute or two


def error_body(error: DeltaserveError) -> bytes:
    """`{"error": {...}}` as JSON; what it repeats of a request is short and valid Unicode."""
    param = None if error.param is None else plain(error.param, MAX_NAME)
    detail = {"message": plain(error.message), "type": error.type, "param": param, "code": error.code}
    return orjson.dumps({"error": detail})


def error_event(error: DeltaserveError) -> bytes:
    """The last event of a stream that fails; no [DONE] follows."""
    return b"data: %b\n\n" % error_body(error)


def error_headers(error: DeltaserveError) -> dict[str, str]:
    """openai-python obeys all: whether to try again, and when.

    It prefers `retry-after-ms`, which differs from answer to answer, lest who is refused together come back together.
    """
    headers = {"x-should-retry": "true" if error.retryable else "false"}
    if error.retry_after_s is not None:
        wait_s = max(1, math.ceil(error.retry_after_s))
        headers["retry-after"] = str(wait_s)
        headers["retry-after-ms"] = str(round(1000 * (wait_s + random.uniform(0, min(wait_s / 2, _LONGEST_SPREAD_S)))))
    if error.status == 401:
        headers["www-authenticate"] = "Bearer"
    return headers


def error_response(error: DeltaserveError, scope: Scope) -> Response:
    """In the form that the route's clients know."""
    body = orjson.dumps(anthropic_error(error, _id_of(scope))) if speaks_anthropic(scope) else error_body(error)
    return Response(body, error.status, error_headers(error), media_type="application/json")


def speaks_anthropic(scope: Scope) -> bool:
    """Whether clients of this route know Anthropic's forms."""
    path = scope["path"]
    return bool(path == _ANTHROPIC or path.startswith(f"{_ANTHROPIC}/"))


def anthropic_error(error: DeltaserveError, request_id: str | None = None) -> dict[str, Any]:
    """`{"type": "error", "error": {...}}`"""
    return _anthropic_error(error.status, error.message, request_id)


def _anthropic_error(status: int, message: str, request_id: str | None) -> dict[str, Any]:
    detail = {"type": _ANTHROPIC_TYPES.get(status, "api_error"), "message": plain(message)}
    return {"type": "error", "error": detail, "request_id": request_id}


def _id_of(scope: Scope) -> str:
    return str(scope["state"]["record"].id)


def unexpected() -> DeltaserveError:
    """What a caller sees of a defect of ours: nothing but that it is one."""
    return DeltaserveError("The server failed on this request; its log has the details under this request id.")


def install(app: FastAPI, retry_after_s: float) -> None:
    """Every error that reaches the framework leaves in one shape; `retry_after_s` where the error names no time."""

    async def known(request: Request, error: Exception) -> Response:
        if not isinstance(error, DeltaserveError):
            raise error
        if error.retryable and error.retry_after_s is None:
            error.retry_after_s = retry_after_s
        request.state.record.error = error.code or error.type
        return error_response(error, request.scope)

    app.add_exception_handler(DeltaserveError, known)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)


async def _invalid(request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    request.state.record.error = "invalid_request"
    return error_response(schema_error(error.errors(), _fields(request)), request.scope)


async def _http(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    request.state.record.error = "http"
    sentence = plain(_http_sentence(request, error))
    if speaks_anthropic(request.scope):
        body = _anthropic_error(error.status_code, sentence, _id_of(request.scope))
    else:
        kind = "invalid_request_error" if error.status_code < 500 else "server_error"
        body = {"error": {"message": sentence, "type": kind, "param": None, "code": None}}
    return Response(orjson.dumps(body), error.status_code, error.headers, media_type="application/json")


def _http_sentence(request: Request, error: HTTPException) -> str:
    if error.status_code == 404:
        return not_built(request.scope["path"].rstrip("/"))
    if error.status_code == 405:
        return f"This route does not take {request.method}."
    return str(error.detail)


def _fields(request: Request) -> Mapping[str, Any]:
    """Fields of the route's body model, whose descriptions say what each accepts."""
    field = getattr(request.scope.get("route"), "body_field", None)
    model = getattr(getattr(field, "field_info", None), "annotation", None)
    fields: Mapping[str, Any] = getattr(model, "model_fields", {})
    return fields


def schema_error(errors: Sequence[Any], fields: Mapping[str, Any]) -> BadRequest:
    """One sentence for the first of pydantic's errors, naming the field and what it accepts; never the value."""
    first = errors[0]
    path = [part for part in first["loc"] if part not in ("body", "query", "path")]
    if first["type"] == "json_invalid":
        return BadRequest(f"The body is not valid JSON: {first['ctx']['error']} at character {first['loc'][-1]}.")
    if not path:
        return BadRequest("Send one JSON object with Content-Type: application/json.")
    name = str(path[0])
    if first["type"] == "missing" and len(path) == 1:
        return BadRequest(f"`{name}` is required.", param=name)
    accepted = getattr(fields.get(name), "description", None)
    if accepted:
        return BadRequest(f"`{name}` must be {accepted}.", param=name)
    return BadRequest(f"`{_spelled(path, name)}` is not accepted: {first['msg']}.", param=name)


def _spelled(path: Sequence[Any], name: str) -> str:
    """`messages[0].content` from ('messages', 0, 'content', ...): field names and indices, no type names."""
    spelled = name
    for part in path[1:]:
        if isinstance(part, int):
            spelled += f"[{part}]"
        elif part.isidentifier() and part not in ("str", "int", "float", "list", "dict", "bool"):
            spelled += f".{part}"
    return spelled
