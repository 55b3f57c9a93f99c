"""The admin routes beside the public ones, or at an address of their own."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from starlette.middleware import Middleware

from deltaserve.server.addresses import bound
from deltaserve.server.api import errors
from deltaserve.server.api.access.admin_door import AdminDoor
from deltaserve.server.api.access.middleware import BodyLimit, RequestContext
from deltaserve.server.api.routes import admin
from deltaserve.server.observability.fastapi_telemetry import OFF
from deltaserve.server.observability.metrics import Metrics
from deltaserve.server.settings import Settings
from deltaserve.server.sockets.listening import Listener


def admin_layer(settings: Settings) -> list[Middleware]:
    """The door; none without a key, for then there is nothing behind it."""
    key = settings.admin_key
    if key is None:
        return []
    return [Middleware(AdminDoor, key.get_secret_value(), settings.admin_requests_per_minute)]


def create_admin_app(public: FastAPI) -> FastAPI:
    """The admin routes alone, over the same service."""
    settings: Settings = public.state.settings
    layers = [
        Middleware(RequestContext, public.state.serving, public.state.log),
        *admin_layer(settings),
        Middleware(BodyLimit, settings.max_body_bytes, settings.body_timeout_s),
    ]
    app = FastAPI(
        telemetry=OFF,
        title="deltaserve admin",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        strict_content_type=False,
        middleware=layers,
    )
    app.state.serving, app.state.log = public.state.serving, public.state.log
    errors.install(app, settings.retry_after_s)
    app.include_router(admin.router)
    return app


class AdminServer(Listener):
    """Runs in the public server's event loop and leaves signals to it. `shared`: sockets that are bound already."""

    def __init__(self, public: FastAPI, metrics: Metrics, shared: list[socket.socket] | None = None) -> None:
        settings: Settings = public.state.settings
        host, port = settings.admin_host or settings.host, settings.admin_port or 0
        more: dict[str, Any] = {"shared": shared is not None, "log_config": None, "lifespan": "off"}
        super().__init__(create_admin_app(public), settings, metrics, host, port, **more)
        self._sockets = bound(host, port, "admin routes", "--admin-port") if shared is None else shared
        self._task: asyncio.Task[None] | None = None
        self._log: Any = public.state.log

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def begin(self) -> None:
        """Needs a running event loop."""
        host, port = self._sockets[0].getsockname()[:2]
        self._log.info("admin routes", host=host, port=port)
        self._task = asyncio.create_task(self.serve(self._sockets))

    async def end(self) -> None:
        self.should_exit = True
        if self._task is not None:
            await self._task
