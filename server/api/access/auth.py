"""Keys of clients. Every route asks for one, except the few that tell nothing but the server's own state."""

import hashlib
import hmac
from collections.abc import Iterable
from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from deltaserve.errors import Unauthorized
from deltaserve.server.api.errors import error_response

HEADER: Final = "x-api-key"  # where Anthropic's clients put the key
_OPEN = ("/health", "/version", "/metrics", "/playground", "/admin")  # /admin: see admin_door


class Keys:
    """A set of keys, kept as digests and compared in constant time."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests = [_digest(key) for key in keys]

    def __bool__(self) -> bool:
        return bool(self._digests)

    def accept(self, headers: Headers) -> bool:
        """Whether the Authorization header carries one of the keys."""
        scheme, _, key = headers.get("authorization", "").partition(" ")
        return self.has(key.strip()) and scheme.lower() == "bearer"

    def has(self, key: str) -> bool:
        """Whether `key` is one of them."""
        given = _digest(key)
        matches = [hmac.compare_digest(given, digest) for digest in self._digests]  # all of them, always
        return any(matches)


class RequireKey:
    """ASGI middleware: 401 before the body is read."""

    def __init__(self, app: ASGIApp, keys: Keys) -> None:
        self._app = app
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or _is_open(scope["path"]):
            return await self._app(scope, receive, send)
        headers = Headers(scope=scope)
        if self._keys.accept(headers) or self._keys.has(headers.get(HEADER, "")):
            return await self._app(scope, receive, send)
        given = "authorization" in headers or HEADER in headers
        message = "This API key is not known here." if given else "Send an API key: Authorization: Bearer <key>."
        scope["state"]["record"].error = Unauthorized.code
        return await error_response(Unauthorized(message), scope)(scope, receive, send)


def _is_open(path: str) -> bool:
    return path == "/" or any(path == prefix or path.startswith(f"{prefix}/") for prefix in _OPEN)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
