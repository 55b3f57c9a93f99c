"""The server under attack as a client meets it: what breaks on the way."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from deltaserve.client.address import Address
from deltaserve.client.calls import Call
from deltaserve.client.errors import Unreachable
from deltaserve.client.evaluation.target import Target

pytestmark = pytest.mark.anyio
CARDS = b'{"data": [{"id": "model"}]}'


@asynccontextmanager
async def forgetful(answers: int):
    """A server that answers so often on a connection and closes the next time it is asked. Gives what it was asked."""
    asked = []

    async def serve(reader, writer):
        for number in range(answers + 1):
            try:
                await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                break
            asked.append(number)
            if number < answers:
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(CARDS), CARDS))
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", asked


async def test_a_connection_that_closes_as_it_is_taken_again_costs_nothing():
    async with forgetful(1) as (url, asked), Target.connected("served", Address(url)) as target:
        assert (await target.send(Call("GET", "/health", bytes))).content == CARDS
        assert asked == [0, 1, 0]  # models, the one that broke, and the same again
        assert target.calls == 2


async def test_a_server_that_never_answers_is_reported():
    async with forgetful(0) as (url, asked):
        with pytest.raises(Unreachable, match=r"served: the server does not answer \(RemoteProtocolError\)"):
            async with Target.connected("served", Address(url)):
                pass
        assert asked == [0, 0]
