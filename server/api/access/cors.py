"""Browser applications of other origins, where the operator names them; never the admin routes or the page."""

from collections.abc import Sequence
from typing import Final

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from deltaserve.server.api.access.rates import RATE_HEADERS

_SHOWN: Final = ("x-request-id", "retry-after", "retry-after-ms", "x-should-retry", *RATE_HEADERS)
_OURS_ALONE: Final = ("/admin", "/playground")


class Cors:
    """Around everything, so that refusals can be read by the application too."""

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        self._app = app
        self._open = CORSMiddleware(
            app, allow_origins=origins, allow_methods=("GET", "POST"), allow_headers=("*",), expose_headers=_SHOWN
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        alone = scope["type"] != "http" or scope["path"].startswith(_OURS_ALONE)
        await (self._app if alone else self._open)(scope, receive, send)
