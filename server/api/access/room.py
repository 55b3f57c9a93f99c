"""At overload a request is refused before its body is read: reading, rendering and encoding it would be for nothing."""

from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from deltaserve.errors import RateLimited
from deltaserve.server.api.errors import error_response
from deltaserve.server.serving.service import Serving

_GENERATE: Final = frozenset({"/v1/completions", "/v1/chat/completions", "/v1/responses", "/v1/messages"})


class RequireRoom:
    """ASGI middleware: 429 where not even one more choice of this client would be let in.

    Whoever passes may be refused later: a request of several choices, or the first where another process counts.
    """

    def __init__(self, app: ASGIApp, serving: Serving) -> None:
        self._app = app
        self._serving = serving

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        generates = scope["type"] == "http" and scope["method"] == "POST" and scope["path"] in _GENERATE
        if not generates or self._serving.draining:  # which is another answer
            return await self._app(scope, receive, send)
        record = scope["state"]["record"]
        try:
            await self._serving.places.check_room(record.client)
        except RateLimited as error:
            record.error = error.code
            error.retry_after_s = error.retry_after_s or self._serving.settings.retry_after_s
            return await error_response(error, scope)(scope, receive, send)
        return await self._app(scope, receive, send)
