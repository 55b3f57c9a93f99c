"""Long work leaves the event loop, a bounded number of times at once."""

import asyncio
import threading

import pytest

from deltaserve.errors import RateLimited
from deltaserve.server.serving import worker_threads
from deltaserve.server.serving.worker_threads import SHORT_BYTES, WorkerThreads

LONG = SHORT_BYTES + 1

pytestmark = pytest.mark.anyio


async def test_short_work_is_done_on_the_loop_and_long_work_in_a_thread() -> None:
    here = threading.get_ident()
    assert await WorkerThreads().run(SHORT_BYTES, threading.get_ident) == here
    assert await WorkerThreads().run(LONG, threading.get_ident) != here


async def test_work_beyond_the_threads_and_their_queue_is_refused() -> None:
    gate, work = threading.Event(), WorkerThreads(threads=1, waiting=1)
    running = [asyncio.create_task(work.run(LONG, gate.wait)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(RateLimited):
        await work.run(LONG, gate.wait)
    assert await work.run(0, lambda: "short") == "short"
    gate.set()
    assert await asyncio.gather(*running) == [True, True]
    assert await work.run(LONG, lambda: "again") == "again"


async def test_what_the_work_raises_is_raised_and_its_place_is_free_again() -> None:
    work = WorkerThreads(threads=1, waiting=0)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            await work.run(LONG, lambda: 1 // 0)


@pytest.mark.parametrize(("size", "given_back"), [(LONG, 0), (4_000_000, 1)])
async def test_the_memory_of_very_long_work_is_given_back(
    size: int, given_back: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    monkeypatch.setattr(worker_threads, "give_back", lambda: calls.append(1))
    await WorkerThreads().run(size, lambda: None)
    assert len(calls) == given_back
