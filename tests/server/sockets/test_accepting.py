"""A socket that several processes listen on: who has time takes the next connection, and only that one."""

import asyncio
import socket
from collections.abc import Iterator

import pytest

from deltaserve.server.sockets.accepting import SharedAcceptor

pytestmark = pytest.mark.anyio
CLIENTS = 40


class Taken(asyncio.Protocol):
    """Counts its acceptor's connections."""

    def __init__(self, connections: list["Taken"]) -> None:
        self._connections = connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self._connections.append(self)


@pytest.fixture
def shared() -> Iterator[socket.socket]:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        yield one


async def clients(shared: socket.socket, count: int) -> list[asyncio.StreamWriter]:
    host, port = shared.getsockname()
    made = await asyncio.gather(*(asyncio.open_connection(host, port) for _ in range(count)))
    return [writer for _, writer in made]


async def until(condition: object) -> None:
    async with asyncio.timeout(10):
        while not condition():  # type: ignore[operator]  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_clients_that_come_together_are_shared_out(shared: socket.socket) -> None:
    with shared.dup() as again:  # as another process has it
        one: list[Taken] = []
        other: list[Taken] = []
        first = SharedAcceptor(shared, lambda: Taken(one), 128)
        second = SharedAcceptor(again, lambda: Taken(other), 128)
        writers = await clients(shared, CLIENTS)
        await until(lambda: len(one) + len(other) == CLIENTS)
        assert one and other
        for acceptor in (first, second):
            acceptor.close()
            await acceptor.wait_closed()
        for closing in [*writers, *(taken.transport for taken in one + other)]:
            closing.close()  # type: ignore[attr-defined]


async def test_after_its_end_it_takes_nobody(shared: socket.socket) -> None:
    taken: list[Taken] = []
    acceptor = SharedAcceptor(shared, lambda: Taken(taken), 128)
    acceptor.close()
    acceptor.close()
    (writer,) = await clients(shared, 1)
    await asyncio.sleep(0.05)
    assert taken == []
    writer.close()


async def test_an_address_that_another_server_listens_on_is_refused(shared: socket.socket) -> None:
    with socket.socket() as rival:
        rival.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        rival.bind(shared.getsockname())
        rival.listen()
        with pytest.raises(OSError, match="in use"):
            SharedAcceptor(shared, lambda: Taken([]), 128)
