"""SIGTERM while streams run, again and again: every stream that has begun is to end whole within the grace period."""

import asyncio
import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from benchmarks.support.process_tree import ended
from benchmarks.support.processes import Running
from benchmarks.swap.streams import Ask, Got, stream
from deltaserve.server.upstream.http.transport import Limits, Transport

LONGEST_S = 1.0  # of load before the signal
Start = Callable[[], AbstractContextManager[Running]]


@dataclass(slots=True)
class Ended:
    """What was seen of all times."""

    times: int = 0
    streams: int = 0  # that had begun when the signal came
    torn: int = 0
    refused: int = 0  # that came too late, and were told so
    left_running: int = 0  # servers that did not end within the grace period
    seconds: list[float] = field(default_factory=list)  # from the signal to the end


async def end_under_load(start: Start, asks: Sequence[Ask], streams: int, times: int, grace_s: float) -> Ended:
    chance, seen = random.Random(1), Ended()
    for _ in range(times):
        context = start()
        running = await asyncio.to_thread(context.__enter__)
        try:
            await _once(running, [chance.choice(asks) for _ in range(streams)], chance, seen, grace_s)
        finally:
            await asyncio.to_thread(context.__exit__, None, None, None)
    return seen


async def _once(running: Running, asks: Sequence[Ask], chance: random.Random, seen: Ended, grace_s: float) -> None:
    clients = [Transport(running.url, limits=Limits(attempts=1)) for _ in asks]
    tasks = [asyncio.create_task(stream(client, ask)) for client, ask in zip(clients, asks, strict=True)]
    await asyncio.sleep(chance.uniform(0.1, LONGEST_S))
    began = time.monotonic()
    os.kill(running.pid, signal.SIGTERM)
    answers = await asyncio.gather(*tasks)
    seen.left_running += not await asyncio.to_thread(ended, [running.pid], grace_s)
    seen.seconds.append(time.monotonic() - began)
    seen.times += 1
    _count(answers, seen)
    for client in clients:
        await client.aclose()


def _count(answers: Sequence[Got], seen: Ended) -> None:
    begun = [got for got in answers if got.ids]
    seen.streams += len(begun)
    seen.torn += sum(not got.whole for got in begun)
    seen.refused += len(answers) - len(begun)
