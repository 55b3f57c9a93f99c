"""Processes of a server killed under load: what their clients got, how soon all is well again, what is left behind."""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from benchmarks.support.process_tree import children, crash, ended, of_role
from benchmarks.support.processes import Running
from benchmarks.swap.streams import Ask, Crowd, Got, Known, decoded_alone
from deltaserve.errors import DeltaserveError
from deltaserve.server.upstream.http.transport import Limits, Transport

Start = Callable[[], AbstractContextManager[Running]]
SHORTEST_S, LONGEST_S = 0.3, 1.2  # of load before a kill
GIVEN_UP_S = 120.0
_LOOKS = 8  # at a server of several front-ends, each by a connection of its own


@dataclass(slots=True)
class Load:
    """Who asks while something is killed, and what a whole answer of theirs is."""

    clients: int
    asks: Sequence[Ask]
    model: str
    known: Known = field(default_factory=dict)

    async def learn(self, url: str) -> None:
        """The answers, decoded alone."""
        if not self.known:
            self.known = await decoded_alone(url, self.asks, [self.model])


@dataclass(slots=True)
class Killed:
    """What was seen of one kind of kill."""

    kills: int = 0
    answers: list[Got] = field(default_factory=list)
    ready_s: list[float] = field(default_factory=list)  # from a kill until every client is answered again
    orphans: int = 0
    lost: int = 0  # processes that should have gone on, and did not

    def tokens(self) -> int:
        return sum(len(got.ids) for got in self.answers)

    def torn(self) -> int:
        return sum(not got.whole for got in self.answers)


def uncorrected(answers: Sequence[Got], known: Known) -> int:
    """Tokens that the corrected answer, decoded alone, does not have at their place."""
    wrong = 0
    for got in answers:
        if got.ids:
            right = next((ids for (_, ask), ids in known.items() if ask == got.ask), ())
            wrong += sum(a != b for a, b in zip(got.ids, right, strict=False)) + max(0, len(got.ids) - len(right))
    return wrong


async def kill_children(running: Running, role: str, kills: int, load: Load, seed: int = 1) -> Killed:
    """`kills` times one process of the role, while the clients ask; the next one when all is well again."""
    chance, seen = random.Random(seed), Killed()
    whole = len(children(running.pid))
    await load.learn(running.url)
    async with _crowd(running, load, seen):
        for _ in range(kills):
            await asyncio.sleep(chance.uniform(SHORTEST_S, LONGEST_S))
            others = {pid for pid, its in children(running.pid).items() if its != role}
            at = time.monotonic()
            crash(chance.choice(of_role(running.pid, role)))
            seen.kills += 1
            await _until_ready(running, whole)
            seen.ready_s.append(time.monotonic() - at)
            seen.lost += len(others - set(children(running.pid)))
    return seen


async def kill_parents(start: Start, kills: int, load: Load, seed: int = 1) -> Killed:
    """`kills` times the parent of a server that is started anew each time; `ready_s` is of the start."""
    chance, seen = random.Random(seed), Killed()
    for _ in range(kills):
        at = time.monotonic()
        with start() as running:
            await _until_ready(running, len(children(running.pid)))
            seen.ready_s.append(time.monotonic() - at)
            await load.learn(running.url)
            async with _crowd(running, load, seen):
                await asyncio.sleep(chance.uniform(SHORTEST_S, LONGEST_S))
                pids = list(children(running.pid))
                crash(running.pid)
                seen.kills += 1
            seen.orphans += not await asyncio.to_thread(ended, pids)
    return seen


def _crowd(running: Running, load: Load, seen: Killed) -> Crowd:
    return Crowd(running.url, load.asks, load.clients, seen.answers)


async def _until_ready(running: Running, processes: int) -> None:
    """All processes are there, and whoever asks is told that the server is ready. Raises TimeoutError."""
    async with asyncio.timeout(GIVEN_UP_S):
        while len(children(running.pid)) < processes or not await _ready(running.url):  # noqa: ASYNC110  (others')
            await asyncio.sleep(0.05)


async def _ready(url: str) -> bool:
    for _ in range(_LOOKS):
        transport = Transport(url, limits=Limits(attempts=1))
        try:
            await transport.get_json("/health/ready")
        except DeltaserveError:
            return False
        finally:
            await transport.aclose()
    return True
