"""A front-end: HTTP, chat templates, the black box's streams and texts, in front of the engine process. No torch."""

import asyncio
import socket
from contextlib import AsyncExitStack, suppress
from typing import Any, Final

from fastapi import FastAPI

from deltaserve.errors import DeltaserveError
from deltaserve.server.app import FAILED, Build, Server, create_app, run_until_told, tell_start_once
from deltaserve.server.garbage import keep_what_is_there
from deltaserve.server.observability.logs import send_structlog_to_logging
from deltaserve.server.processes.frontend.registry import RemoteRegistry
from deltaserve.server.processes.handover import Handover, Parent
from deltaserve.server.settings import Settings
from deltaserve.server.upstream_settings import LIMITS
from deltaserve.server.wiring import connect_upstream

# Bounds of the whole server that are kept by giving each front-end its share; the least that makes sense.
_SHARED: Final = {"admin_requests_per_minute": 1, "local_draft_concurrent_positions": 2}


class FrontEndServer(Server):
    """Tells the parent when it listens."""

    parent: Parent

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        keep_what_is_there()
        self.parent.started()


def run(handover: Handover, parent: Parent) -> int:
    """Until it is told to end. Gives the exit status; raises what the start ended with."""
    send_structlog_to_logging()
    settings = share(handover.settings, handover.front_ends)
    if not handover.pushes:
        settings = settings.model_copy(update={"otlp_metrics_endpoint": None})
    app = front_end(handover, settings)
    server = FrontEndServer.over(app, settings, [socket.socket(fileno=one) for one in handover.admin])
    server.parent = parent
    tell_start_once(app)
    try:
        return run_until_told(server, [socket.socket(fileno=one) for one in handover.public])
    except SystemExit:  # uvicorn's, whatever the reason
        error: DeltaserveError | None = app.state.start_error
        parent.failed(error)
        return FAILED


def share(settings: Settings, front_ends: int) -> Settings:
    """The settings of one of so many front-ends. Shares of an upstream's limits are rounded down: they are its own."""
    each: dict[str, object] = {}
    for name, least in _SHARED.items():
        each[name] = max(least, -(-getattr(settings, name) // front_ends))
    for name in LIMITS:
        each[name] = tuple(limit and max(1, limit // front_ends) for limit in getattr(settings, name))
    return settings.model_copy(update=each)


def front_end(handover: Handover, settings: Settings) -> FastAPI:
    """The app, whose offsets and places are the engine process's."""
    registry = RemoteRegistry(handover.engine_socket)

    async def opened(_: Settings, stack: AsyncExitStack) -> RemoteRegistry:
        task = asyncio.create_task(registry.link.run())
        stack.push_async_callback(_cancelled, task)
        await registry.link.wait()
        return registry

    return create_app(settings, build=Build(opened, connect_upstream, registry, handover.began_ns))


async def _cancelled(task: "asyncio.Task[Any]") -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
