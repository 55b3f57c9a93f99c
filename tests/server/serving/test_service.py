"""Admission and the way from pieces to a client."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from deltaserve.errors import BadRequest, RateLimited, UpstreamUnreachable
from deltaserve.server.decoding.stream import Piece
from deltaserve.server.observability.metrics import Metrics
from deltaserve.server.serving.admission.clients import ANYBODY
from deltaserve.server.serving.admission.gate import Gate
from deltaserve.server.serving.admission.places import LocalPlaces
from deltaserve.server.serving.outbox import Outbox
from deltaserve.server.serving.ports import Backends
from deltaserve.server.serving.service import Serving
from deltaserve.server.settings import Settings
from tests.support.app import FlatVersion, OneVersion, ScriptedBlackBox

pytestmark = pytest.mark.anyio

PIECE = Piece("a", ())


def gate(**settings: float) -> Gate:
    given = Settings(**settings)
    return Gate(LocalPlaces(given.most_streams or 0, given.max_queue), given.queue_timeout_s, Metrics())


async def test_pieces_leave_in_batches_in_the_order_they_came() -> None:
    outbox = Outbox(2)
    await outbox.put(1, PIECE)
    await outbox.put(0, PIECE)
    outbox.end(None)
    outbox.end(None)
    assert [batch async for batch in outbox] == [[(1, PIECE), (0, PIECE)]]


async def test_what_came_before_an_error_is_delivered_before_it() -> None:
    outbox = Outbox(1)
    await outbox.put(0, PIECE)
    seen = []
    with pytest.raises(UpstreamUnreachable):
        async for batch in outbox:
            seen += batch
            if len(seen) == 1:
                await outbox.put(0, PIECE)
                outbox.end(UpstreamUnreachable("gone"))
    assert len(seen) == 2


async def test_a_client_that_is_too_far_behind_holds_its_generation() -> None:
    outbox = Outbox(1)
    sent = 0

    async def generate() -> None:
        nonlocal sent
        while True:
            await outbox.put(0, PIECE)
            sent += 1

    task = asyncio.create_task(generate())
    await asyncio.sleep(0.02)
    behind = sent
    await asyncio.sleep(0.02)
    assert sent == behind > 0
    first = await anext(aiter(outbox))
    await asyncio.sleep(0.02)
    assert len(first) == behind
    assert sent == 2 * behind
    task.cancel()


async def test_places_are_given_in_the_order_of_arrival() -> None:
    door = gate(max_streams=1)
    order: list[int] = []

    async def enter(number: int) -> None:
        async with door.reserved(ANYBODY, 1) as ticket, ticket.place():
            order.append(number)
            await asyncio.sleep(0)

    await asyncio.gather(*(enter(number) for number in range(5)))
    assert order == list(range(5))


async def test_a_full_queue_refuses_requests_until_a_place_is_free() -> None:
    door = gate(max_streams=1, max_queue=1)
    async with door.reserved(ANYBODY, 2):
        with pytest.raises(RateLimited):
            await door.reserved(ANYBODY, 1).__aenter__()
    async with door.reserved(ANYBODY, 2):
        pass
    with pytest.raises(BadRequest):
        await door.reserved(ANYBODY, 3).__aenter__()


async def test_a_cancelled_wait_leaks_no_place() -> None:
    door = gate(max_streams=1)
    async with door.reserved(ANYBODY, 1) as ticket, ticket.place(), door.reserved(ANYBODY, 1) as other:
        waiting = asyncio.create_task(other.place().__aenter__())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    async with door.reserved(ANYBODY, 1) as ticket, asyncio.timeout(1), ticket.place():
        pass


async def test_the_queue_timeout_is_for_a_requests_first_choice_only() -> None:
    door = gate(max_streams=1, queue_timeout_s=0.05)

    async def hold(number: int) -> None:
        async with ticket.place():
            await asyncio.sleep(0.04)

    async with door.reserved(ANYBODY, 4) as ticket:
        await asyncio.gather(*(hold(number) for number in range(4)))
    async with door.reserved(ANYBODY, 1) as busy, door.reserved(ANYBODY, 1) as late, busy.place():
        with pytest.raises(RateLimited, match=r"0\.05 s"):
            await late.place().__aenter__()


class Stuck(OneVersion):
    """Of an engine process that is there and does not answer."""

    @asynccontextmanager
    async def pinned(self, model: str | None) -> AsyncIterator[Any]:
        await asyncio.Event().wait()
        yield

    async def engine_stats(self) -> dict[str, float]:
        await asyncio.Event().wait()
        return {}


async def test_an_engine_that_does_not_answer_makes_the_server_not_ready() -> None:
    serving = Serving(Settings(connect_timeout_s=0.01), Metrics())
    serving.attach(Backends(ScriptedBlackBox(), Stuck(FlatVersion(None)), "tiny"))  # type: ignore[arg-type]
    async with asyncio.timeout(10):
        assert await serving.problems() == ["the offset engine does not answer"]
        assert await serving._engine_stats() == {}
