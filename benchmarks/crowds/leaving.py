"""Clients that leave at random moments of an answer; what is held for them afterwards."""

import asyncio
import json
import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from benchmarks.support.processes import Running

LONGEST_S: Final = 1.5  # that a client stays
GIVEN_UP_S: Final = 30.0
_HELD: Final = ("deltaserve_num_requests_running", "deltaserve_num_requests_waiting")


@dataclass(slots=True)
class Left:
    """What was seen of them."""

    clients: int = 0
    answered: int = 0  # had read something before they left
    places: float = 0.0  # still held when it was given up
    upstream_calls: float = 0.0
    idle_s: float = 0.0  # from the last one's leaving until nothing was held


async def leave_at_random(
    running: Running, calls: Callable[[], int], prompts: Sequence[Sequence[int]], clients: int, at_once: int
) -> Left:
    """`clients` of them, `at_once` at a time; `calls`: how many the black box is answering."""
    chance, left = random.Random(1), Left()
    waiting = iter(range(clients))

    async def crowd() -> None:
        for _ in waiting:
            await _one(running.url, _request(chance, prompts), chance, left)

    await asyncio.gather(*(crowd() for _ in range(at_once)))
    began = time.monotonic()
    while time.monotonic() - began < GIVEN_UP_S:
        left.places, left.upstream_calls = await asyncio.to_thread(_held, running), calls()
        if not left.places and not left.upstream_calls:
            break
        await asyncio.sleep(0.05)
    left.idle_s = time.monotonic() - began
    return left


def _held(running: Running) -> float:
    metrics = running.metrics()
    return sum(metrics[name] for name in _HELD)


def _request(chance: random.Random, prompts: Sequence[Sequence[int]]) -> bytes:
    body = {"prompt": list(chance.choice(prompts)), "stream": chance.random() < 0.7, "n": chance.choice([1, 1, 2])}
    content = json.dumps({**body, "max_tokens": 200, "ignore_eos": True, "temperature": 0.7}).encode()
    head = b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % len(content) + content


async def _one(url: str, request: bytes, chance: random.Random, left: Left) -> None:
    """Now and then it leaves within its own request; else after a while, with a close or a reset."""
    place = urlsplit(url)
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    left.clients += 1
    sent = request if chance.random() > 0.1 else request[: chance.randrange(len(request))]
    try:
        with suppress(ConnectionError, TimeoutError):
            writer.write(sent)
            await writer.drain()
            async with asyncio.timeout(chance.uniform(0, LONGEST_S)):
                left.answered += bool(await reader.read(1))
                while await reader.read(1 << 16):
                    pass
    finally:
        writer.transport.abort() if chance.random() < 0.5 else writer.close()
