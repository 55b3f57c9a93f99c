"""A server on one address: bounded connections, and an end in which every request still gets an answer."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from deltaserve.server.addresses import in_use
from deltaserve.server.observability.metrics import Metrics
from deltaserve.server.settings import Settings
from deltaserve.server.sockets.accepting import SharedAcceptor
from deltaserve.server.sockets.connections import Bounds, bounded

_LAST_WORDS_S: Final = 1.0  # for the errors of requests that are cut, and for their clients to take them
_POLL_S: Final = 0.05


class Listener(uvicorn.Server):
    """Ends in order: running requests may finish, those that do not get an error, then the listening ends.

    Until then it answers whoever comes: that it is draining, and when to come back.
    """

    def __init__(
        self,
        app: Any,
        settings: Settings,
        metrics: Metrics,
        host: str,
        port: int,
        *,
        shared: bool = False,
        **more: Any,
    ) -> None:
        """`shared`: other processes listen on the same sockets. `more` is for uvicorn."""
        self._bounds = Bounds.of(settings, lambda reason: metrics.connections_cut.labels(reason).inc())
        config = uvicorn.Config(
            app,
            host=host,
            port=port,
            http=bounded(AutoHTTPProtocol, self._bounds),
            ws="none",
            access_log=False,
            server_header=False,
            timeout_keep_alive=settings.keep_alive_timeout_s,
            timeout_graceful_shutdown=1,  # what is left after a drain of our own
            **more,
        )
        super().__init__(config)
        self.hurried = False  # the drain ends now
        self._shared = shared
        self._drain_timeout_s = settings.drain_timeout_s
        self._looking: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup([] if self._shared else sockets)
            if self._shared and self.started:
                self.servers = [self._acceptor(one) for one in sockets or []]  # type: ignore[misc]
        except OSError:  # bound by two, of which the other one listens already
            await self.lifespan.shutdown()
            raise in_use(self.config.port, "server", "--port") from None
        self._looking = asyncio.create_task(self._look())

    def _acceptor(self, shared: socket.socket) -> SharedAcceptor:
        config, state = self.config, self.server_state

        def protocol() -> asyncio.Protocol:
            made: asyncio.Protocol = config.http_protocol_class(  # type: ignore[call-arg]
                config=config, server_state=state, app_state=self.lifespan.state
            )
            return made

        return SharedAcceptor(shared, protocol, config.backlog)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self.drain()
        for connection in self._connections():
            if connection.unsent:  # uvicorn would wait for it
                connection.transport.abort()
        await super().shutdown(sockets)
        if self._looking is not None:
            self._looking.cancel()

    async def drain(self) -> None:
        """Until what runs now has been answered and sent; past the drain timeout, or in a hurry, with an error."""
        running = list(self.server_state.tasks)
        await self._until(lambda: self.hurried or self._done(running), self._drain_timeout_s)
        running = list(self.server_state.tasks)
        for task in running:
            task.cancel()  # `api.middleware` answers
        await self._until(lambda: self._done(running), _LAST_WORDS_S)

    def _done(self, tasks: list["asyncio.Task[None]"]) -> bool:
        return all(task.done() for task in tasks) and not any(one.unsent for one in self._connections())

    async def _until(self, done: Callable[[], bool], within_s: float) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + within_s
        while not done() and (left := end - loop.time()) > 0:  # noqa: ASYNC110  (many things to wait for, at the end)
            await asyncio.sleep(min(_POLL_S, left))

    async def _look(self) -> None:
        """Runs as long as the server."""
        while True:
            await asyncio.sleep(self._bounds.look_every_s)
            for connection in self._connections():
                connection.look()

    def _connections(self) -> list[Any]:
        return list(self.server_state.connections)
