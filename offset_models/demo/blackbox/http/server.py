"""The process: one model, one engine thread, one uvicorn on one socket."""

import logging
import socket
import sys
from types import FrameType

import uvicorn

from deltaserve.offset_models.demo.blackbox.generation.model import load
from deltaserve.offset_models.demo.blackbox.http.app import App
from deltaserve.offset_models.demo.blackbox.http.faults import FaultPlan
from deltaserve.offset_models.demo.blackbox.http.service import Service
from deltaserve.offset_models.demo.blackbox.options import Options
from deltaserve.server.addresses import in_use


class ReadyServer(uvicorn.Server):
    """Prints its address on stdout as soon as it listens: the process that started it waits for that line.

    SIGINT and SIGTERM end it with exit status 0; a second one ends it without waiting for clients.
    """

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if not self.should_exit:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            sys.stdout.write(f"ready http://{host}:{port}\n")
            sys.stdout.flush()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002  (as uvicorn calls it)
        """Without noting the signal, which uvicorn would raise anew at the end."""
        self.force_exit = self.should_exit
        self.should_exit = True


def serve(options: Options, sockets: list[socket.socket]) -> None:
    """Blocks until a signal ends it. `sockets`: bound, not listening yet. Raises BadCheckpoint, AddressUnusable."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    # Faults leave answers unfinished on purpose; uvicorn reports each as an error of the application.
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    try:
        plan = FaultPlan(options.faults)
    except ValueError as error:
        sys.exit(str(error))
    app = App(Service(load(options), options, plan))
    config = uvicorn.Config(
        app,
        host=options.host,
        port=options.port,
        access_log=False,
        log_config=None,
        lifespan="on",
        timeout_graceful_shutdown=1,
    )
    try:
        ReadyServer(config).run(sockets)
    except OSError:  # bound by two, of which the other one listens already
        raise in_use(options.port, "black box", "--port") from None
    except SystemExit:  # uvicorn's, of a start that failed; its own status would mean something else
        sys.exit(1)
