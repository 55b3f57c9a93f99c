"""The way from the choices of one request to its client."""

import asyncio
from typing import Self

from deltaserve.server.decoding.stream import Piece

_MOST_PIECES = 256  # a client that reads slower than this many pieces behind slows its own generation


class Outbox:
    """Pieces of all choices on their way to one client, in order of arrival. Iterates in batches: all there is."""

    def __init__(self, running: int) -> None:
        self._running = running
        self._items: list[tuple[int, Piece]] = []
        self._error: BaseException | None = None
        self._reader: asyncio.Future[None] | None = None  # waits for a change
        self._space = asyncio.Event()

    async def put(self, index: int, piece: Piece) -> None:
        """Waits while the client is too far behind."""
        while len(self._items) >= _MOST_PIECES:
            self._space.clear()
            await self._space.wait()
        self._items.append((index, piece))
        self._wake()

    def end(self, error: BaseException | None) -> None:
        """One choice has ended."""
        self._running -= 1
        self._error = self._error or error
        self._wake()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> list[tuple[int, Piece]]:
        await self._filled()
        items, self._items = self._items, []
        self._space.set()
        return items

    async def _filled(self) -> None:
        """Until there is a piece. Raises what ended a choice early, StopAsyncIteration at the end."""
        while not self._items:  # those that came before an error are given first
            if self._error is not None:
                raise self._error
            if not self._running:
                raise StopAsyncIteration
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)


class PacedOutbox(Outbox):
    """Gives one piece of each choice at a time, at whole multiples of `every_s` after its beginning.

    Whatever waits for the next tick took the same time, as far as the client can see: a token that was replaced, which
    needs another call to the black box, or one that was not.
    """

    def __init__(self, running: int, every_s: float) -> None:
        super().__init__(running)
        self._every_s = every_s
        self._began = asyncio.get_running_loop().time()
        self._ticks = 0  # so far; the last one gave a piece

    async def __anext__(self) -> list[tuple[int, Piece]]:
        await self._filled()
        await self._next_tick()
        first: dict[int, Piece] = {}
        later: list[tuple[int, Piece]] = []
        for index, piece in self._items:
            if index in first:
                later.append((index, piece))
            else:
                first[index] = piece
        self._items = later
        self._space.set()
        return list(first.items())

    async def _next_tick(self) -> None:
        """The next one that is still to come; never the same twice."""
        passed = asyncio.get_running_loop().time() - self._began
        self._ticks = max(self._ticks, int(passed / self._every_s)) + 1
        await asyncio.sleep(self._ticks * self._every_s - passed)
