"""A connection on which nothing is said: a server that ends closes it, and so says that it ended.

Without it a restart between two calls leaves no trace: the next connection is made as if nothing had happened.
"""

import asyncio
from collections.abc import Callable
from typing import Final, cast

_TOO_SOON_S: Final = 1.0  # a server that closes silent connections sooner than this cannot be watched
_ALIKE: Final = 0.2  # of a server's patience, by which its closing of silent connections may vary


class Watch:
    """Kept open to one address; `lost` is told when its end cannot be the server's patience with silent connections."""

    def __init__(self, host: str, port: int, connect_s: float, lost: Callable[[], None]) -> None:
        self._host, self._port, self._connect_s, self._lost = host, port, connect_s, lost
        self._silent: _Silent | None = None
        self._opened = 0.0
        self._patience_s: float | None = None  # after which the server closed one and was there all the same
        self._opening: asyncio.Task[None] | None = None
        self._closed = False

    async def keep(self) -> None:
        """Open it, unless it is."""
        if self._silent is None and not self._closed:
            await self._open()

    async def aclose(self) -> None:
        self._closed = True
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.gather(self._opening, return_exceptions=True)
        if self._silent is not None:
            self._silent.close()

    async def _open(self) -> bool:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._connect_s):
                _, silent = await loop.create_connection(lambda: _Silent(self._ended), self._host, self._port)
        except (OSError, TimeoutError):
            return False
        if silent.gone or self._closed or self._silent is not None:
            silent.close()
            return not silent.gone
        self._silent, self._opened = silent, loop.time()
        return True

    def _ended(self, silent: "_Silent") -> None:
        if self._closed or silent is not self._silent:
            return
        self._silent = None
        lived = asyncio.get_running_loop().time() - self._opened
        self._opening = asyncio.create_task(self._reopen(lived))

    async def _reopen(self, lived: float) -> None:
        """A server that ended is not there at once; one whose patience ended is, and has it every time."""
        usual = self._patience_s is not None and abs(lived - self._patience_s) <= _ALIKE * self._patience_s
        there = lived >= _TOO_SOON_S and await self._open()
        if there:
            self._patience_s = lived
        if not (there and usual):
            self._lost()


class _Silent(asyncio.Protocol):
    """Hears nothing but the end."""

    def __init__(self, ended: "Callable[[_Silent], None]") -> None:
        self.gone = False
        self._ended = ended
        self._wire: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._wire = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  (why does not matter)
        self.gone = True
        self._ended(self)

    def close(self) -> None:
        self._wire.abort()
