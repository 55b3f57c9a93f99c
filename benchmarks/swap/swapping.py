"""Swaps under streaming clients: nothing torn, nothing mixed, the call quick."""

import asyncio
import time
from dataclasses import dataclass, field
from typing import Final

from benchmarks.swap.server import ADMIN_KEY, SERVED
from benchmarks.swap.site import NAMES, Site
from benchmarks.swap.streams import Ask, Crowd, Got, Known, asks, decoded_alone, stream, torn, wrong
from deltaserve.client.admin import AsyncAdminClient
from deltaserve.server.upstream.http.transport import Limits, Transport

RELOAD_EVERY: Final = 10  # swaps; the checkpoint that is neither active nor previous is unloaded and loaded again
ROLLBACK_EVERY: Final = 7


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of it."""

    swaps: int
    clients: int
    tokens: int  # of one stream
    seeds: int  # for each prompt
    pause_s: float  # between two swaps


@dataclass(slots=True)
class Swapped:
    """What was seen. `late` counts requests that began after a swap's answer and did not get the new version."""

    answers: list[Got]
    known: Known
    swap_ms: list[float] = field(default_factory=list)
    late: int = 0

    @property
    def torn(self) -> int:
        return torn(self.answers)

    @property
    def wrong(self) -> int:
        return wrong(self.answers, self.known) + self.late


async def swap(url: str, site: Site, plan: Plan) -> Swapped:
    """Loads the three, learns what each says alone, then swaps them while the clients stream."""
    wanted = asks(site.prompts, plan.seeds, plan.tokens)
    async with AsyncAdminClient(url, api_key=ADMIN_KEY) as admin:
        for name in NAMES:
            await admin.load(name, name)
        known = await decoded_alone(url, wanted, [f"{SERVED}@{name}" for name in NAMES])
        crowd = Crowd(url, wanted, plan.clients)
        seen = Swapped(crowd.answers, known)
        async with crowd:
            await asyncio.sleep(plan.pause_s)
            await _swaps(admin, url, wanted[0], plan, seen)
    return seen


async def _swaps(admin: AsyncAdminClient, url: str, probe: Ask, plan: Plan, seen: Swapped) -> None:
    transport = Transport(url, limits=Limits(attempts=1))
    short = Ask(probe.prompt, probe.seed, 1)
    try:
        for number in range(1, plan.swaps + 1):
            began = time.perf_counter()
            going_back = number % ROLLBACK_EVERY == 0
            done = await (admin.rollback() if going_back else admin.activate(NAMES[number % len(NAMES)]))
            seen.swap_ms.append(1e3 * (time.perf_counter() - began))
            first = await stream(transport, short)
            seen.late += first.fingerprints != {done.active.fingerprint}
            if number % RELOAD_EVERY == 0:
                await _reload(admin, {done.active.name, done.previous})
            await asyncio.sleep(plan.pause_s)
    finally:
        await transport.aclose()


async def _reload(admin: AsyncAdminClient, needed: set[str | None]) -> None:
    name = next(name for name in NAMES if name not in needed)
    await admin.unload(name)
    await admin.load(name, name)
