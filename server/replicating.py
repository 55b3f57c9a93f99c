"""Opens one replica of a fleet: its engine, its way to the store, and what it begins with."""

import asyncio
import socket
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deltaserve.offset_models.files.locks import locked
from deltaserve.server.fleet.joining import Joining, Seed, kept_in
from deltaserve.server.fleet.journal import FleetJournal
from deltaserve.server.fleet.offsets import READY_WITHIN_S, FleetOffsets
from deltaserve.server.fleet.presence import PATIENCE
from deltaserve.server.fleet.replica import Replica, Terms
from deltaserve.server.fleet.stores.opening import FOLDER
from deltaserve.server.observability.logs import logger
from deltaserve.server.opening import open_engine, report, watch
from deltaserve.server.preflight import opened_store, place, state_folder
from deltaserve.server.settings import Settings

if TYPE_CHECKING:
    from deltaserve.offset_models.registry.registry import Registry as OffsetRegistry
    from deltaserve.offset_models.registry.state import RegistryState


async def open_replica(settings: Settings, stack: AsyncExitStack) -> FleetOffsets:
    """In contact with the store until `stack` is closed. Raises NotConfigured, BadCheckpoint. Imports torch."""
    folder = state_folder(settings)
    if settings.fleet_store == FOLDER and folder is not None:
        stack.enter_context(locked(folder, shared=True))
    terms = Terms(settings.fleet_replica or _name(settings), settings.fleet_poll_s, settings.fleet_contact_s)
    store = await asyncio.to_thread(opened_store, settings)
    journal = FleetJournal(store, terms.replica, settings.fleet_fence_s)
    registry = await open_engine(settings, stack, writes=journal)
    replica = Replica(registry, journal, store, terms, logger())
    stack.push_async_callback(replica.leave)
    _in_background(replica.run(), stack)
    offsets = FleetOffsets(registry, replica, READY_WITHIN_S + PATIENCE * terms.contact_s)
    await _join(settings, stack, replica, registry, _kept(settings, folder))
    if settings.watch_offsets:
        watch(offsets, place(settings)[0], settings, stack)
    return offsets


async def _join(
    settings: Settings,
    stack: AsyncExitStack,
    replica: Replica,
    registry: "OffsetRegistry",
    kept: "Callable[[], RegistryState | None]",
) -> None:
    root, path = place(settings)
    joining = Joining(replica, registry, Seed(kept, path, settings.strength), logger())
    if await joining.here():
        report(registry, root, path)
    else:
        _in_background(joining.later(), stack)


def _kept(settings: Settings, folder: Path | None) -> "Callable[[], RegistryState | None]":
    """In the folder itself the store finds it."""
    return partial(kept_in, None if settings.fleet_store == FOLDER else folder)


def _name(settings: Settings) -> str:
    return f"{socket.gethostname()[:80]}-{settings.port}"


def _in_background(work: Coroutine[Any, Any, None], stack: AsyncExitStack) -> None:
    task = asyncio.create_task(work)

    async def stop() -> None:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    stack.push_async_callback(stop)
