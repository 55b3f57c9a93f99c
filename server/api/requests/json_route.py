"""Routes that take JSON read it in bounded time, beside the event loop where it is long."""

from collections.abc import Callable, Coroutine
from email.message import Message
from functools import partial
from typing import Any

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from deltaserve.server.api.requests.json_text import parse
from deltaserve.server.serving.service import Serving


class JsonRoute(APIRoute):
    """A route whose body is parsed by `json_text`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        if self.body_field is None:
            return handle

        async def handle_parsed(request: Request) -> Response:
            return await handle(await _parsed(request))

        return handle_parsed


class _Parsed(Request):
    """A request whose JSON is known."""

    value: Any = None

    async def json(self) -> Any:
        return self.value


async def _parsed(request: Request) -> Request:
    """Raises BadRequest. Another content type is left to the framework, which finds no object in it."""
    parsed = _Parsed(request.scope, request.receive)
    raw = await parsed.body()
    if not raw or not _says_json(request.headers.get("content-type")):
        return parsed
    serving: Serving = request.app.state.serving
    parsed.value = await serving.threads.run(len(raw), partial(parse, raw, serving.settings.max_body_values))
    return parsed


def _says_json(content_type: str | None) -> bool:
    """Whether the body is JSON, as FastAPI decides it with strict_content_type off."""
    if not content_type:
        return True
    message = Message()
    message["content-type"] = content_type
    subtype = message.get_content_subtype()
    return message.get_content_maintype() == "application" and (subtype == "json" or subtype.endswith("+json"))
