"""The way from the choices of one request to its client."""

import asyncio
from collections.abc import AsyncIterator

from deltaserve.server.decoding.stream import Piece

_MOST_PIECES = 256  # a client that reads slower than this many pieces behind slows its own generation


class Outbox:
    """Pieces of all choices on their way to one client, in order of arrival. Iterates in batches: all there is."""

    def __init__(self, running: int) -> None:
        self._running = running
        self._items: list[tuple[int, Piece]] = []
        self._error: BaseException | None = None
        self._changed = asyncio.Event()
        self._space = asyncio.Event()

    async def put(self, index: int, piece: Piece) -> None:
        """Waits while the client is too far behind."""
        while len(self._items) >= _MOST_PIECES:
            self._space.clear()
            await self._space.wait()
        self._items.append((index, piece))
        self._changed.set()

    def end(self, error: BaseException | None) -> None:
        """One choice has ended."""
        self._running -= 1
        self._error = self._error or error
        self._changed.set()

    async def __aiter__(self) -> AsyncIterator[list[tuple[int, Piece]]]:
        while True:
            if self._items:  # also those that came before an error
                items, self._items = self._items, []
                self._space.set()
                yield items
            elif self._error is not None:
                raise self._error
            elif not self._running:
                return
            else:
                await self._changed.wait()
                self._changed.clear()
