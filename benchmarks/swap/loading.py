"""Loads beside running streams: the time between tokens with and without them, and the memory afterwards."""

import asyncio
from collections.abc import Awaitable, Callable

from benchmarks.support.processes import Running
from benchmarks.support.report import quantile
from benchmarks.swap.server import ADMIN_KEY
from benchmarks.swap.site import NAMES, WHOLE, Site
from benchmarks.swap.streams import Crowd, asks
from deltaserve.client.admin import AsyncAdminClient

SPARE = (NAMES[2], WHOLE)  # an adapter on the loaded base, and a pair of whole models


async def between_tokens_ms(url: str, site: Site, clients: int, tokens: int, phase_s: float) -> tuple[float, float]:
    """p99 (without, with) loads going on all the time. Alternates the two so that drift meets both."""
    quiet: list[float] = []
    loading: list[float] = []
    async with AsyncAdminClient(url, api_key=ADMIN_KEY) as admin:
        await _without_spare(admin)
        for _ in range(3):
            quiet += await _gaps(url, site, clients, tokens, lambda: asyncio.sleep(phase_s))
            loading += await _gaps(url, site, clients, tokens, lambda: _cycles_for(admin, phase_s))
    return 1e3 * quantile(quiet, 0.99), 1e3 * quantile(loading, 0.99)


async def memory_ratio(running: Running, cycles: int) -> tuple[float, list[int]]:
    """Resident memory after `cycles` loads and unloads against before; (ratio, bytes along the way).

    Before: after two cycles, when everything that is allocated once has been.
    """
    async with AsyncAdminClient(running.url, api_key=ADMIN_KEY) as admin:
        await _without_spare(admin)
        for _ in range(2):
            await _cycle(admin)
        sizes = [await _settled(running)]
        for _ in range(cycles):
            await _cycle(admin)
            sizes.append(running.resident_bytes())
        sizes.append(await _settled(running))
    return sizes[-1] / sizes[0], sizes


async def _gaps(
    url: str, site: Site, clients: int, tokens: int, meanwhile: Callable[[], Awaitable[None]]
) -> list[float]:
    crowd = Crowd(url, asks(site.prompts, 4, tokens), clients)
    async with crowd:
        await meanwhile()
    return [gap for got in crowd.answers for gap in got.gaps]


async def _cycles_for(admin: AsyncAdminClient, seconds: float) -> None:
    clock = asyncio.get_running_loop()
    until = clock.time() + seconds
    while clock.time() < until:
        await _cycle(admin)


async def _cycle(admin: AsyncAdminClient) -> None:
    for name in SPARE:
        await admin.load(name, name)
    for name in SPARE:
        await admin.unload(name)


async def _without_spare(admin: AsyncAdminClient) -> None:
    """Neither loaded, active nor kept for a rollback."""
    for other in NAMES[:2]:
        await admin.load(other, other)
        await admin.activate(other)
    loaded = [offset.name for offset in await admin.offsets()]
    for name in SPARE:
        if name in loaded:
            await admin.unload(name)


async def _settled(running: Running) -> int:
    await asyncio.sleep(0.5)  # what was released leaves in the background
    return running.resident_bytes()
