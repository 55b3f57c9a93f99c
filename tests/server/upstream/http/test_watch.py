"""The silent connection: its end is the server's, but where the server's patience is."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from deltaserve.server.upstream.http import watch as watching
from deltaserve.server.upstream.http.watch import Watch

pytestmark = pytest.mark.anyio


@dataclass
class Server:
    """Takes connections and says nothing on them."""

    port: int = 0
    made: int = 0
    open: list[asyncio.StreamWriter] = field(default_factory=list)
    stop: Callable[[], Awaitable[None]] = field(init=False)

    def drop(self) -> None:
        while self.open:
            self.open.pop().close()


@asynccontextmanager
async def serving(port: int = 0) -> AsyncIterator[Server]:
    found = Server()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        found.made += 1
        found.open.append(writer)
        await reader.read()
        writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", port)
    found.port = server.sockets[0].getsockname()[1]

    async def stop() -> None:
        server.close()
        found.drop()

    found.stop = stop
    try:
        yield found
    finally:
        await stop()


@asynccontextmanager
async def watched(port: int) -> AsyncIterator[tuple[Watch, list[str]]]:
    lost: list[str] = []
    watch = Watch("127.0.0.1", port, 1.0, lambda: lost.append("lost"))
    await watch.keep()
    try:
        yield watch, lost
    finally:
        await watch.aclose()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110  (what it looks at has no event)
            await asyncio.sleep(0.001)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server may close silent connections at once, and always at another age."""
    monkeypatch.setattr(watching, "_TOO_SOON_S", 0.0)
    monkeypatch.setattr(watching, "_ALIKE", float("inf"))


@pytest.mark.usefixtures("impatient")
async def test_a_server_that_ends_is_noticed() -> None:
    async with serving() as server, watched(server.port) as (_, lost):
        await until(lambda: server.made == 1)
        await server.stop()
        await until(lambda: lost == ["lost"])


@pytest.mark.usefixtures("impatient")
async def test_a_server_s_idle_timeout_counts_as_a_loss_only_the_first_time() -> None:
    async with serving() as server, watched(server.port) as (_, lost):
        for made in range(1, 5):
            await until(lambda made=made: server.made == made)  # type: ignore[misc]
            server.drop()
        await until(lambda: server.made == 5)
        assert lost == ["lost"]


async def test_a_server_that_takes_no_silent_connections_is_not_asked_again_and_again() -> None:
    async with serving() as server, watched(server.port) as (watch, lost):
        await until(lambda: server.made == 1)
        server.drop()
        await until(lambda: lost == ["lost"])
        assert server.made == 1
        await watch.keep()
        await until(lambda: server.made == 2)


async def test_closing_it_is_no_loss() -> None:
    async with serving() as server:
        async with watched(server.port) as (watch, lost):
            await until(lambda: server.made == 1)
            await watch.keep()
        assert (server.made, lost) == (1, [])


async def test_no_connection_is_lost_where_nobody_listens() -> None:
    async with serving() as server:
        port = server.port
    async with watched(port) as (_, lost):
        assert lost == []
