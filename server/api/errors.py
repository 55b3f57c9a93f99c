"""Errors on the wire: OpenAI's body, Retry-After and x-should-retry."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from deltaserve.errors import BadRequest, DeltaserveError
from deltaserve.server.api.requests.naming import MAX_NAME, plain

_NO_ROUTE: Final = "There is no such route; the public ones begin with /v1/."
# Routes that OpenAI's clients know, and what to use in their place.
_NOT_BUILT: Final[Mapping[str, str]] = {
    "/v1/responses": "/v1/responses is not built here: use /v1/chat/completions (its messages in place of `input`).",
    "/v1/embeddings": "/v1/embeddings is not built here: this server generates text only; ask the embedding model's "
    "own server.",
    "/v1/messages": "/v1/messages is not built here: use /v1/chat/completions.",
    "/chat/completions": "There is no such route: the base URL ends in /v1, as in /v1/chat/completions.",
    "/completions": "There is no such route: the base URL ends in /v1, as in /v1/completions.",
    "/models": "There is no such route: the base URL ends in /v1, as in /v1/models.",
    "/v1": "There is no such route: give clients this address as their base URL, and they ask /v1/chat/completions.",
}


def error_body(error: DeltaserveError) -> bytes:
    """`{"error": {...}}` as JSON; what it repeats of a request is short and valid Unicode."""
    param = None if error.param is None else plain(error.param, MAX_NAME)
    detail = {"message": plain(error.message), "type": error.type, "param": param, "code": error.code}
    return orjson.dumps({"error": detail})


def error_event(error: DeltaserveError) -> bytes:
    """The last event of a stream that fails; no [DONE] follows."""
    return b"data: %b\n\n" % error_body(error)


def error_headers(error: DeltaserveError) -> dict[str, str]:
    """openai-python obeys both: whether to try again, and when."""
    headers = {"x-should-retry": "true" if error.retryable else "false"}
    if error.retry_after_s is not None:
        headers["retry-after"] = str(max(1, math.ceil(error.retry_after_s)))
    if error.status == 401:
        headers["www-authenticate"] = "Bearer"
    return headers


def error_response(error: DeltaserveError) -> Response:
    return Response(error_body(error), error.status, error_headers(error), media_type="application/json")


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
        return error_response(error)

    app.add_exception_handler(DeltaserveError, known)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)


async def _invalid(request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    request.state.record.error = "invalid_request"
    return error_response(schema_error(error.errors(), _fields(request)))


async def _http(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    request.state.record.error = "http"
    kind = "invalid_request_error" if error.status_code < 500 else "server_error"
    detail = {"message": plain(_http_sentence(request, error)), "type": kind, "param": None, "code": None}
    return Response(orjson.dumps({"error": detail}), error.status_code, error.headers, media_type="application/json")


def _http_sentence(request: Request, error: HTTPException) -> str:
    if error.status_code == 404:
        return _NOT_BUILT.get(request.scope["path"].rstrip("/"), _NO_ROUTE)
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
