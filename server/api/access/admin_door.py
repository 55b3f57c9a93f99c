"""The door to /admin: its own key, compared in constant time, and a limit on how often it is knocked at."""

import hashlib
from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from deltaserve.errors import DeltaserveError, RateLimited, Unauthorized
from deltaserve.offset_models.registry.audit import Actor
from deltaserve.server.api.access.auth import Keys
from deltaserve.server.api.errors import error_response
from deltaserve.server.serving.admission.allowance import Allowance

PREFIX: Final = "/admin"
KEY_ID_DIGITS: Final = 8  # enough to tell keys apart in the audit log, too few to test a guess against


class AdminUnauthorized(Unauthorized):
    code = "invalid_admin_key"


class AdminDoor:
    """ASGI middleware: 401 or 429 before the body is read; the actor for the audit log into the request's state.

    Wrong keys have an allowance of their own, so strangers cannot use up the operators'.
    """

    def __init__(self, app: ASGIApp, key: str, per_minute: int) -> None:
        self._app = app
        self._keys = Keys([key])
        self._key_id = key_id(key)
        self._right, self._wrong = Allowance(per_minute), Allowance(per_minute)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not is_admin(scope["path"]):
            return await self._app(scope, receive, send)
        error = self._refusal(Headers(scope=scope))
        if error is None:
            scope["state"]["actor"] = Actor(self._key_id, scope["state"]["record"].id)
            return await self._app(scope, receive, send)
        scope["state"]["record"].error = error.code
        return await error_response(error, scope)(scope, receive, send)

    def _refusal(self, headers: Headers) -> DeltaserveError | None:
        right = self._keys.accept(headers)
        wait_s = (self._right if right else self._wrong).take()
        if wait_s is not None:
            return RateLimited("Too many admin requests; see admin_requests_per_minute.", retry_after_s=wait_s)
        return None if right else AdminUnauthorized("Send the admin key: Authorization: Bearer <admin key>.")


def is_admin(path: str) -> bool:
    return path == PREFIX or path.startswith(f"{PREFIX}/")


def key_id(key: str) -> str:
    """Names a key in the audit log without telling it."""
    return hashlib.sha256(f"deltaserve-admin:{key}".encode("utf-8", "surrogateescape")).hexdigest()[:KEY_ID_DIGITS]
