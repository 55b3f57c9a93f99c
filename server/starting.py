"""A start that fails: one sentence in the log and an exit status that says why, never a traceback."""

import sys
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deltaserve.errors import DeltaserveError


class PlainStart:
    """Layer around the lifespan: a known error ends the start with its sentence; the app's state keeps it.

    Anything else is a defect of ours, and leaves with the traceback that the framework makes.
    """

    def __init__(self, app: ASGIApp, log: Any) -> None:
        self._app = app
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return

        async def tell(message: Message) -> None:
            error = sys.exc_info()[1]  # what the framework is telling of
            if message["type"] == "lifespan.startup.failed" and isinstance(error, DeltaserveError):
                scope["app"].state.start_error = error
                self._log.error("cannot start", reason=error.message)
                message = {**message, "message": ""}
            await send(message)

        await self._app(scope, receive, tell)
