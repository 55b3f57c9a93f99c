"""Swaps of a whole fleet while clients stream from each replica, and what their answers say about them."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from benchmarks.swap.server import ADMIN_KEY, SERVED
from benchmarks.swap.site import NAMES, Site
from benchmarks.swap.streams import Ask, Crowd, Got, Known, asks, decoded_alone, torn, wrong
from deltaserve.client.admin import AsyncAdminClient


@dataclass(frozen=True, slots=True)
class Swap:
    """Seconds of one clock."""

    asked: float
    answered: float
    fingerprint: str  # which answers from then on, until another swap is asked for


@dataclass(slots=True)
class Swapped:
    answers: list[Got]
    known: Known
    swaps: list[Swap] = field(default_factory=list)

    @property
    def torn(self) -> int:
        return torn(self.answers)

    @property
    def wrong(self) -> int:
        return wrong(self.answers, self.known)

    @property
    def late(self) -> int:
        """Answers that began after a swap was answered, and before the next one was asked for, on another version."""
        return sum(self._late(got) for got in self.answers)

    def _late(self, got: Got) -> bool:
        done = [swap for swap in self.swaps if swap.answered < got.began]
        asked = [swap for swap in self.swaps if swap.asked <= (got.arrivals or [got.began])[0]]
        allowed = {done[-1].fingerprint, *(swap.fingerprint for swap in asked[len(done) :])} if done else None
        return allowed is not None and bool(got.fingerprints - allowed)


async def loaded(urls: Sequence[str], wanted: Sequence[Ask]) -> Known:
    """Loads the checkpoints, asked of one replica, and learns from another what each of them says."""
    async with AsyncAdminClient(urls[0], api_key=ADMIN_KEY) as admin:
        for name in NAMES:
            await admin.load(name, name)
        for name in NAMES:
            await admin.activate(name)  # answered when every replica has it
    return await decoded_alone(urls[-1], wanted, [f"{SERVED}@{name}" for name in NAMES])


async def swap(
    urls: Sequence[str],
    site: Site,
    *,
    swaps: int,
    clients: int,
    tokens: int,
    pause_s: float,
    entrances: Sequence[str] = (),
) -> Swapped:
    """Each swap is asked of another replica, each answer through one of `entrances`, else of the replicas in turn."""
    doors = entrances or urls
    wanted = asks(site.prompts, 1, tokens)
    seen = Swapped([], await loaded(urls, wanted))
    async with AsyncExitStack() as stack:
        admins = [await stack.enter_async_context(AsyncAdminClient(url, api_key=ADMIN_KEY)) for url in urls]
        crowds = [await stack.enter_async_context(Crowd(url, wanted, clients // len(doors))) for url in doors]
        for number in range(swaps):
            await asyncio.sleep(pause_s)
            asked = time.perf_counter()
            done = await admins[number % len(admins)].activate(NAMES[number % len(NAMES)])
            seen.swaps.append(Swap(asked, time.perf_counter(), str(done.active.fingerprint)))
        await asyncio.sleep(pause_s)
    seen.answers += [got for crowd in crowds for got in crowd.answers]
    return seen
