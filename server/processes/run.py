"""How a server is run: all in one process, or an engine process with front-ends before it."""

import asyncio
import logging.config
import os
import signal

from deltaserve.server import preflight
from deltaserve.server.addresses import bound, close
from deltaserve.server.settings import Settings


def run(settings: Settings) -> int:
    """Serves until SIGINT or SIGTERM; running answers may finish within the drain timeout. Gives the exit status.

    Raises the DeltaserveError that the start ended with: what can be known without reading a model comes first.
    """
    if settings.front_ends == 0:
        from deltaserve.server.app import run as run_alone

        return run_alone(settings)
    return _run_processes(settings)


def _run_processes(settings: Settings) -> int:
    from deltaserve.server.observability.logs import log_config, logger, send_structlog_to_logging
    from deltaserve.server.processes.supervisor import INTERRUPTED, Supervisor

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: os._exit(INTERRUPTED))
    public, *others = [bound(*address) for address in preflight.addresses(settings)]
    admin = [one for sockets in others for one in sockets]
    try:
        asyncio.run(preflight.check(settings))
        logging.config.dictConfig(log_config(settings.log_level, settings.log_json))
        send_structlog_to_logging()
        return Supervisor(settings, settings.front_ends, public, admin, logger()).run()
    finally:
        close([*public, *admin])
