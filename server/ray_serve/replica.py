"""One replica under Ray Serve, as Ray asks it. Imports no Ray."""

import logging.config
import sys
from contextlib import AsyncExitStack
from typing import Any

from fastapi import FastAPI

from deltaserve.errors import DeltaserveError, Unavailable
from deltaserve.server.app import Build, create_app
from deltaserve.server.fleet.offsets import FleetOffsets
from deltaserve.server.observability.logs import log_config, send_structlog_to_logging
from deltaserve.server.ray_serve.loopback import LoopbackOnly
from deltaserve.server.ray_serve.wishes import Wishes, wish_of
from deltaserve.server.replicating import open_replica
from deltaserve.server.serving.service import Serving
from deltaserve.server.settings import Settings
from deltaserve.server.wiring import SWITCH_INTERVAL_S


class RayReplica:
    """The proxy and its engine in one process. `app` is opened and closed by its lifespan, in which the rest works."""

    def __init__(self, settings: Settings) -> None:
        self.app: FastAPI = create_app(settings, build=Build(registry=self._open))
        if not settings.needs_key:
            self.app.add_middleware(LoopbackOnly)
        self._serving: Serving = self.app.state.serving
        self._log: Any = self.app.state.log
        self._wishes: Wishes | None = None

    async def _open(self, settings: Settings, stack: AsyncExitStack) -> FleetOffsets:
        offsets = await open_replica(settings, stack)
        self._wishes = Wishes(offsets, self._log)
        stack.push_async_callback(self._wishes.stop)  # before the replica leaves its fleet
        return offsets

    def wish(self, user_config: Any) -> None:
        """Hand `user_config` to the fleet. A mistake is logged and changes nothing: Ray would end a replica for it."""
        try:
            wish = wish_of(user_config)
        except DeltaserveError as error:
            self._log.error("user_config not followed", reason=error.message)
            return
        if self._wishes is not None:
            self._wishes.take(wish)

    async def require_sound(self) -> None:
        """Raises Unavailable for what another process in this one's place would not have: Ray replaces the replica.

        A fence, or a black box that is away, is no such thing (`readiness`).
        """
        if (reason := await self._serving.broken()) is not None:
            raise Unavailable(reason)

    async def readiness(self) -> dict[str, bool]:
        """Whether /health/ready would say so; for `routing`."""
        return {"ready": not await self._serving.problems()}


def prepare_process(settings: Settings) -> None:
    """As `deltaserve serve` does with its own."""
    logging.config.dictConfig(log_config(settings.log_level, settings.log_json))
    send_structlog_to_logging()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
