"""The engine process: the registry, the engine and its versions, behind a socket for the front-ends."""

import asyncio
import logging.config
import signal
import sys
from contextlib import AsyncExitStack
from typing import Any, Final

import uvloop

from deltaserve.server.observability.logs import log_config, logger, send_structlog_to_logging
from deltaserve.server.processes.engine.connection import FrontEnd
from deltaserve.server.processes.handover import Handover, Parent
from deltaserve.server.serving.admission.places import LocalPlaces
from deltaserve.server.settings import Settings
from deltaserve.server.wiring import SWITCH_INTERVAL_S, open_here

_LOOKED_AT_EVERY_S: Final = 0.5
FAILED: Final = 1


def run(handover: Handover, parent: Parent) -> int:
    """Until SIGTERM, which is 0, or until the engine has failed. Raises what the start ended with."""
    settings = handover.settings
    logging.config.dictConfig(log_config(settings.log_level, settings.log_json))
    send_structlog_to_logging()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    return uvloop.run(_serve(handover, parent))


async def _serve(handover: Handover, parent: Parent) -> int:
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    async with AsyncExitStack() as stack:
        offsets = await open_here(handover.settings, stack)
        server = await _listen(handover, offsets, handover.settings)
        stack.callback(server.close)
        parent.started()
        return await _until_told(told, offsets)


async def _listen(handover: Handover, offsets: Any, settings: Settings) -> asyncio.Server:
    """The socket is made anew: that of an engine that was killed is still there."""
    handover.engine_socket.unlink(missing_ok=True)
    places, log = LocalPlaces(offsets.max_streams, settings.max_queue), logger()
    loop = asyncio.get_running_loop()
    return await loop.create_unix_server(lambda: FrontEnd(offsets, places, log).wire, str(handover.engine_socket))


async def _until_told(told: asyncio.Event, offsets: Any) -> int:
    while offsets.alive:
        try:
            await asyncio.wait_for(told.wait(), _LOOKED_AT_EVERY_S)
        except TimeoutError:
            continue
        return 0
    logger().error("the offset engine has failed")
    return FAILED
