"""Connections of a socket that several processes listen on: each takes one a turn, so that those with time take more.

asyncio takes all that wait at once: of clients that come together one process would get all.
"""

import asyncio
import errno
import socket
from collections.abc import Callable
from typing import Any, Final

_WITHOUT_ROOM: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_ROOM_AFTER_S: Final = 1.0


class SharedAcceptor:
    """Listens on `shared` until it is closed; `protocol` makes each connection's. Raises OSError as `listen` does."""

    def __init__(self, shared: socket.socket, protocol: Callable[[], asyncio.Protocol], backlog: int) -> None:
        self._socket = shared
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        self._beginning: set[asyncio.Task[Any]] = set()
        shared.setblocking(False)
        shared.listen(backlog)
        self._loop.add_reader(shared.fileno(), self._take)

    def close(self) -> None:
        """Takes no more; the socket stays open."""
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket.fileno())

    async def wait_closed(self) -> None:
        """As asyncio's servers have it."""

    def _take(self) -> None:
        try:
            connection, _ = self._socket.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return  # another process was faster, or the client has gone
        except OSError as error:
            if error.errno not in _WITHOUT_ROOM:
                raise
            self.close()
            self._loop.call_later(_ROOM_AFTER_S, self._again)
            return
        connection.setblocking(False)
        task = self._loop.create_task(self._loop.connect_accepted_socket(self._protocol, connection))
        self._beginning.add(task)
        task.add_done_callback(self._begun)

    def _begun(self, task: "asyncio.Task[Any]") -> None:
        self._beginning.discard(task)
        if not task.cancelled():
            task.exception()  # of a client that has gone

    def _again(self) -> None:
        if self._socket.fileno() >= 0:
            self._loop.add_reader(self._socket.fileno(), self._take)
