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
        while not self._items:  # those that came before an error are given first
            if self._error is not None:
                raise self._error
            if not self._running:
                raise StopAsyncIteration
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        items, self._items = self._items, []
        self._space.set()
        return items

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)
