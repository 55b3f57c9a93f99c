"""The front-end's connection to the engine process, made anew whenever it was lost."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

from deltaserve.errors import OffsetUnavailable
from deltaserve.server.processes.wire import messages as m
from deltaserve.server.processes.wire.frames import Wire
from deltaserve.server.processes.wire.translation import error

AWAY: Final = "The offset engine has ended; it is being started again."
HANGS: Final = "The offset engine does not answer; requests are refused until it does."
PING_EVERY_S: Final = 5.0
ANSWERS_WITHIN_S: Final = 20.0  # loading, compiling and capturing run in threads: its loop turns meanwhile
_TRIED_EVERY_S: Final = 0.02


class Connection:
    """One connection, as long as it lasts. Raises OffsetUnavailable for whatever has no answer when it ends."""

    def __init__(self) -> None:
        self.wire: Wire[m.ToFrontEnd] = Wire(m.to_front_end, self._received, self._lost, self._unsent)
        self.ended = asyncio.Event()
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self.why = AWAY  # what is not answered any more fails

    def new_id(self) -> int:
        return next(self._ids)

    def tell(self, message: m.ToEngine) -> None:
        """What needs no answer."""
        self.wire.send(message)

    async def ask(self, asked: int, message: m.ToEngine) -> Any:
        """The answer to a message with the id `asked`: what a Done carries, or the whole message."""
        if self.ended.is_set():
            raise OffsetUnavailable(self.why)
        future = self._waiting[asked] = asyncio.get_running_loop().create_future()
        self.wire.send(message)
        try:
            return await future
        finally:
            self._waiting.pop(asked, None)

    @asynccontextmanager
    async def holding(self, message: Callable[[int], m.ToEngine]) -> AsyncIterator[tuple[int, Any]]:
        """(id, answer) of something that is taken, and dropped at the end, also where the answer was not awaited."""
        taken = self.new_id()
        try:
            yield taken, await self.ask(taken, message(taken))
        finally:
            self.tell(m.Drop(taken))

    async def answers(self) -> None:
        """Raises OffsetUnavailable where the engine has ended, or hangs: then all that waits for it hears so too."""
        asked = self.new_id()
        try:
            async with asyncio.timeout(ANSWERS_WITHIN_S):
                await self.ask(asked, m.Ping(asked))
        except TimeoutError:
            self.why = HANGS
            self.wire.abort()
            await self.ended.wait()
            raise OffsetUnavailable(HANGS) from None

    async def watch(self) -> None:
        """Until it has ended, or hangs."""
        with suppress(OffsetUnavailable):
            while True:
                await self.answers()
                with suppress(TimeoutError):
                    async with asyncio.timeout(PING_EVERY_S):
                        await self.ended.wait()

    def _received(self, message: m.ToFrontEnd) -> None:
        future = self._waiting.get(message.id)
        if future is None or future.done():
            return
        if isinstance(message, m.Failed):
            future.set_exception(error(message.fault))
        else:
            future.set_result(message)

    def _unsent(self, message: Any, why: Exception) -> None:
        future = self._waiting.get(getattr(message, "id", 0))
        if future is not None and not future.done():
            future.set_exception(why)

    def _lost(self) -> None:
        self.ended.set()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(OffsetUnavailable(self.why))


class EngineLink:
    """Gives the connection that there is. `connected` hears each new one, before anybody else uses it.

    An engine process that hangs still takes connections: one is there once it was answered, and while it is.
    """

    def __init__(self, path: Path, connected: Callable[[Connection], None]) -> None:
        self._path = path
        self._connected = connected
        self._connection: Connection | None = None
        self._there = asyncio.Event()
        self._why = AWAY

    @property
    def alive(self) -> bool:
        return self._connection is not None

    @property
    def connection(self) -> Connection:
        """Raises OffsetUnavailable while the engine is away, or hangs."""
        if self._connection is None:
            raise OffsetUnavailable(self._why)
        return self._connection

    async def wait(self) -> None:
        """Until the engine is there."""
        await self._there.wait()

    async def run(self) -> None:
        """Connects, again and again, until it is cancelled."""
        while True:
            connection = await self._made()
            try:
                with suppress(OffsetUnavailable):
                    await connection.answers()
                    self._connected(connection)
                    self._connection = connection
                    self._there.set()
                    await connection.watch()
            finally:
                self._connection, self._why = None, connection.why
                self._there.clear()
                connection.wire.close()

    async def _made(self) -> Connection:
        loop = asyncio.get_running_loop()
        while True:
            with suppress(OSError):  # nobody listens there yet, or the path is not there
                connection = Connection()
                await loop.create_unix_connection(partial(_its_wire, connection), str(self._path))
                return connection
            await asyncio.sleep(_TRIED_EVERY_S)


def _its_wire(connection: Connection) -> Wire[m.ToFrontEnd]:
    return connection.wire
