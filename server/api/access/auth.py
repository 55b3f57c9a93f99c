"""Keys of clients. Every route asks for one, except the few that tell nothing but the server's own state."""

import asyncio
import hmac
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from deltaserve.errors import DeltaserveError, KeyExpired, KeyLimited, OffsetUnavailable, Unauthorized
from deltaserve.server.api.errors import error_response
from deltaserve.server.observability.records import RequestRecord
from deltaserve.server.serving.admission.clients import Client
from deltaserve.server.serving.admission.keys_file import Holder, Holders, digest_of
from deltaserve.server.serving.service import Serving

HEADER: Final = "x-api-key"  # where Anthropic's clients put the key
_OPEN = ("/health", "/version", "/metrics", "/playground", "/admin")  # /admin: see admin_door


class Keys:
    """A set of keys, kept as digests and compared in constant time."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests = [digest_of(key) for key in keys]

    def __bool__(self) -> bool:
        return bool(self._digests)

    def accept(self, headers: Headers) -> bool:
        """Whether the Authorization header carries one of the keys."""
        return self.has(_bearer(headers))

    def has(self, key: str | None) -> bool:
        """Whether `key` is one of them; nothing is never one."""
        given = digest_of(key or "")
        matches = [hmac.compare_digest(given, digest) for digest in self._digests]  # all of them, always
        return any(matches) and bool(key)


class KeyRing:
    """Every key that opens the public routes: those of the settings, and those of the file, which may change."""

    def __init__(self, plain: Iterable[str], now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        """Each plain key is a client of its own, without limits."""
        self._plain = {digest_of(key): Holder(Client(f"#{number}")) for number, key in enumerate(plain, start=1)}
        self._holders: dict[bytes, Holder] = dict(self._plain)
        self._now = now

    def hold(self, holders: Holders) -> None:
        """From now on the file's keys are these. A plain key stays what it is."""
        self._holders = {**holders, **self._plain}

    def client(self, headers: Headers) -> Client:
        """Whoever asks. Raises Unauthorized, KeyExpired."""
        given = [_bearer(headers), headers.get(HEADER)]
        # A digest is looked up, not a key: how long that takes tells nothing of the keys.
        found = [self._holders[digest] for key in given if key and (digest := digest_of(key)) in self._holders]
        if not found:
            known = "authorization" in headers or HEADER in headers
            raise Unauthorized(
                "This API key is not known here." if known else "Send an API key: Authorization: Bearer <key>."
            )
        if found[0].expired(self._now()):
            raise KeyExpired("This API key has expired; ask the operator for a new one.")
        return found[0].client


class RequireKey:
    """ASGI middleware: 401, or 429 where the key's requests are used up, before the body is read."""

    def __init__(self, app: ASGIApp, ring: KeyRing, serving: Serving) -> None:
        self._app = app
        self._ring = ring
        self._serving = serving

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or _is_open(scope["path"]):
            return await self._app(scope, receive, send)
        record: RequestRecord = scope["state"]["record"]
        try:
            record.client = self._ring.client(Headers(scope=scope))
            await self._count(record)
        except DeltaserveError as error:
            record.error = error.code
            if error.retryable and error.retry_after_s is None:
                error.retry_after_s = self._serving.settings.retry_after_s
            return await error_response(error, scope)(scope, receive, send)
        return await self._app(scope, receive, send)

    async def _count(self, record: RequestRecord) -> None:
        """Raises KeyLimited; OffsetUnavailable where the process that counts is away."""
        client = record.client
        if not client.counted:
            return
        try:
            async with asyncio.timeout(self._serving.settings.queue_timeout_s):
                record.standing = await self._serving.places.request(client)
        except TimeoutError:
            raise OffsetUnavailable("The offset engine does not answer.") from None
        if record.standing.wait_s is not None:
            limit = f"{client.requests_per_minute:,} requests a minute"
            raise KeyLimited(f"This API key has used its {limit}.", retry_after_s=record.standing.wait_s)


def _bearer(headers: Headers) -> str | None:
    scheme, _, key = headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else None


def _is_open(path: str) -> bool:
    return path == "/" or any(path == prefix or path.startswith(f"{prefix}/") for prefix in _OPEN)
