"""Without keys only this machine may ask: Ray's proxy listens where its own configuration says."""

import ipaddress

import orjson
from starlette.types import ASGIApp, Receive, Scope, Send

_REFUSAL = (
    "Without api_keys deltaserve answers on this machine's own address only. Set DELTASERVE_API_KEYS_FILE or "
    "DELTASERVE_KEYS_FILE, or http_options.host of the Serve config to 127.0.0.1."
)


class LoopbackOnly:
    """Layer: 403 for who came by an address that other machines reach, or by one that is not known."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or _came_by_loopback(scope):
            await self._app(scope, receive, send)
            return
        error = {"message": _REFUSAL, "type": "invalid_request_error", "code": "loopback_only", "param": None}
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 403, "headers": headers})
        await send({"type": "http.response.body", "body": orjson.dumps({"error": error})})


def _came_by_loopback(scope: Scope) -> bool:
    host = (scope.get("server") or ("",))[0]
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
