"""How a replica comes to a fleet: it takes over the record, or writes the first one."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deltaserve.errors import Conflict, DeltaserveError, StoreUnreachable
from deltaserve.offset_models.registry.audit import LOCAL, Event
from deltaserve.offset_models.registry.registry import Registry
from deltaserve.offset_models.registry.state import RegistryState
from deltaserve.server.fleet.replica import Replica


@dataclass(frozen=True, slots=True)
class Seed:
    """What a fleet without any record begins with: the state that a server kept, else the configured checkpoint."""

    kept: Callable[[], RegistryState | None]  # blocking
    path: str | None
    strength: float | None


class Joining:
    """`here` while the server starts. A store that is away does not hold up the start: `later` goes on."""

    def __init__(self, replica: Replica, registry: Registry, seed: Seed, log: Any) -> None:
        self._replica = replica
        self._registry = registry
        self._seed = seed
        self._log = log

    async def here(self) -> bool:
        """Everything that the record names is loaded, or could not be; False: the store is away.

        Raises BadCheckpoint where a first record was to be made of a checkpoint that cannot be loaded.
        """
        await self._replica.first_turn.wait()
        if not self._replica.reached.is_set():
            return False
        await self._begin_if_empty()
        await self._replica.loaded()
        return True

    async def later(self) -> None:
        """As `here`, as soon as the store is there."""
        await self._replica.reached.wait()
        try:
            while not await self._made():  # noqa: ASYNC110  (the store has no event for being back)
                await asyncio.sleep(self._replica.terms.poll_s)
        except DeltaserveError as error:
            self._log.error("the fleet has no record yet", reason=error.message)

    async def _made(self) -> bool:
        try:
            return await self.here()
        except StoreUnreachable:  # away again
            return False

    async def _begin_if_empty(self) -> None:
        if self._replica.journal.known.generation or not await self._stays_empty():
            return
        state = await asyncio.to_thread(self._seed.kept)
        try:
            if state is not None and state.versions:
                await asyncio.to_thread(self._take_over, state)
            elif self._seed.path is not None:
                manifest = await self._registry.builder.manifest(self._seed.path)
                await self._registry.load(manifest.name, self._seed.path, strength=self._seed.strength, activate=True)
        except Conflict as error:
            self._log.warning("another replica wrote the fleet's first record", reason=error.message)
        await self._replica.contact()

    async def _stays_empty(self) -> bool:
        """A store that lost its record gets it again from those who know it; whoever does not in time is fenced."""
        if not self._replica.store.forgetful:
            return True
        terms = self._replica.terms
        self._log.info("the fleet's store is empty; waiting for replicas that know better", s=terms.contact_s)
        until = asyncio.get_running_loop().time() + terms.contact_s
        while asyncio.get_running_loop().time() < until:
            if self._replica.journal.known.generation:
                return False
            await asyncio.sleep(terms.poll_s)
        return True

    def _take_over(self, state: RegistryState) -> None:
        active = next((spec for spec in state.versions if spec.name == state.active), None)
        event = Event("migrated", state.active or "", active.digest if active else None, LOCAL, "ok")
        self._replica.journal.commit(RegistryState(), state, event)


def kept_in(folder: Path | None) -> RegistryState | None:
    """What a server by itself, or a fleet in a folder, kept there. Blocking. Raises CorruptState."""
    from deltaserve.server.fleet.stores.shared_folder import read_record

    return None if folder is None or not folder.is_dir() else read_record(folder).record
