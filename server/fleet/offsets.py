"""The offsets of a fleet, as requests and operators of one replica ask for them."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from deltaserve.errors import Conflict, StoreUnreachable
from deltaserve.offset_models.registry.audit import Event
from deltaserve.server.fleet.presence import PATIENCE, Presence, failures, holders, unready
from deltaserve.server.fleet.record import Record, activated, asked, rolled_back, without
from deltaserve.server.fleet.replica import Replica
from deltaserve.server.serving.local_registry import LocalRegistry
from deltaserve.server.serving.ports import Json, Version

if TYPE_CHECKING:
    from deltaserve.offset_models.registry.audit import Actor
    from deltaserve.offset_models.registry.registry import Registry as OffsetRegistry
    from deltaserve.offset_models.registry.state import VersionSpec
    from deltaserve.offset_models.registry.version import Version as OffsetVersion

READY_WITHIN_S: Final = 120.0  # a checkpoint, loaded on every replica
_LOOKS_S: Final = 0.05  # between two looks at the other replicas while an operator waits
_SPARE_S: Final = 2.0  # on top of the time after which no replica can answer on an older generation


class FleetOffsets(LocalRegistry):
    """`ports.Offsets`. A change is answered when no replica begins an answer on what was before."""

    def __init__(self, registry: "OffsetRegistry", replica: Replica, ready_within_s: float = READY_WITHIN_S) -> None:
        super().__init__(registry)
        self.replica = replica
        self._ready_within_s = ready_within_s

    @asynccontextmanager
    async def pinned(self, model: str | None) -> AsyncIterator[Version]:
        self.replica.require()
        async with super().pinned(model) as version:
            yield version

    async def engine_stats(self) -> Mapping[str, float]:
        return {**await super().engine_stats(), **self.replica.stats}

    async def load(self, name: str, path: str, *, actor: "Actor") -> "OffsetVersion":
        """As the watch folder asks; every replica's own does, and the first one's change is the others' too."""
        await self.replica.contact()
        return await self.registry.load(name, path, actor=actor)

    async def sum(self, name: str, parts: Mapping[str, float | None], *, activate: bool, actor: "Actor") -> Json:
        await self.replica.contact()
        version = await self.registry.sum(name, parts, actor=actor)
        done = await (self.activate(name, actor=actor) if activate else self._settled())
        return self._shown(version) | {"fleet": done["fleet"]}

    async def activate(self, name: str, *, quorum: int | None = None, actor: "Actor") -> Json:
        await self.replica.contact()
        version = self.registry.catalogue.versions.get(name)
        await self._all_ready("activate", version, quorum, actor)
        if version is not None and not self.replica.follows:
            return await self._pointed("activate", version, lambda record, seen: activated(record, name, seen), actor)
        return self._changed(await self.registry.activate(name, actor=actor)) | await self._settled()

    async def ask(self, name: str, change: int, *, actor: "Actor") -> bool:
        """Activate what a deployment's configuration names, once in the whole fleet; False: `change` was made before.

        A checkpoint that is not loaded is looked for under its name in the offsets root. Raises as `activate`, and
        BadCheckpoint.
        """
        await self.replica.contact()
        await self.replica.loaded()
        if self.replica.journal.known.change >= change:
            return False
        version = self.registry.catalogue.versions.get(name) or await self.registry.load(name, name, actor=actor)
        await self._all_ready("activate", version, None, actor)
        if not await self._asked(Event("activate", name, version.digest, actor, "ok"), change):
            return False
        await self._settled()
        return True

    async def _asked(self, event: Event, change: int) -> bool:
        """Whether this replica wrote the change into the record; False: another one was first."""
        journal = self.replica.journal
        try:
            await asyncio.to_thread(journal.change, lambda record: asked(record, event.version, change), event)
        except Conflict as error:
            await self.replica.contact()
            if journal.known.change >= change:
                return False
            await journal.record(replace(event, result="failed", reason=error.message))
            raise
        return True

    async def rollback(self, *, quorum: int | None = None, actor: "Actor") -> Json:
        await self.replica.contact()
        version = self.registry.catalogue.previous
        await self._all_ready("rollback", version, quorum, actor)
        if version is not None and not self.replica.follows:
            return await self._pointed("rollback", version, rolled_back, actor)
        return self._changed(await self.registry.rollback(actor=actor)) | await self._settled()

    async def set_strength(self, name: str, strength: float, *, actor: "Actor") -> Json:
        await self.replica.contact()
        return await super().set_strength(name, strength, actor=actor) | await self._settled()

    async def unload(self, name: str, *, actor: "Actor") -> Json:
        await self.replica.contact()
        lost = next((spec for spec in self.replica.journal.known.versions if spec.name == name), None)
        if lost is None or name in self.registry.catalogue.versions:
            return await super().unload(name, actor=actor) | await self._settled()
        gone = Event("unload", name, lost.digest, actor, "ok")
        await asyncio.to_thread(self.replica.journal.change, lambda record: without(record, name), gone)
        return {"name": name, "state": "unloaded"} | await self._settled()

    async def fleet(self) -> Json:
        listed = await self.replica.listed()
        known, terms = self.replica.journal.known, self.replica.terms
        return {
            "store": self.replica.store.where,
            "generation": known.generation,
            "active": known.active,
            "fence_s": known.fence_s,
            "contact_s": terms.contact_s,
            "asked": terms.replica,
            "replicas": [_row(one, silent_s, alive, known.generation) for one, silent_s, alive in listed],
        }

    async def _loaded(
        self,
        name: str,
        path: str,
        strength: float | None,
        activate: bool,
        actor: "Actor",
        accepted: Callable[[], None],
    ) -> "OffsetVersion":
        await self.replica.contact()
        version = await self.registry.load(name, path, strength=strength, actor=actor, accepted=accepted)
        if activate:
            await self.activate(name, actor=actor)
        return version

    async def _all_ready(
        self, action: str, version: "OffsetVersion | None", quorum: int | None, actor: "Actor"
    ) -> None:
        """Raises Conflict, audited, where live replicas cannot answer with `version` now, nor soon."""
        if version is None:
            return  # the registry says what is wrong
        try:
            await self._wait_ready(version.spec, quorum)
        except Conflict as error:
            failed = Event(action, version.name, version.digest, actor, "failed", error.message)
            await self.replica.journal.record(failed)
            raise

    async def _pointed(
        self, action: str, version: "OffsetVersion", edit: Callable[[Record, Record], Record], actor: "Actor"
    ) -> Json:
        """Change what is active in the record, where something else answers here: the registry knows of that alone."""
        journal, seen = self.replica.journal, self.replica.journal.known
        event = Event(action, version.name, version.digest, actor, "ok")
        try:
            await asyncio.to_thread(journal.change, lambda record: edit(record, seen), event)
        except Conflict as error:
            await journal.record(replace(event, result="failed", reason=error.message))
            raise
        settled = await self._settled()
        version = self.registry.catalogue.versions.get(version.name, version)
        return {"active": self._shown(version), "previous": seen.active} | settled

    async def _wait_ready(self, spec: "VersionSpec", quorum: int | None) -> None:
        until = time.monotonic() + self._ready_within_s
        while True:
            alive = await self.replica.present()
            ready = sum(one.has(spec) for one in alive)
            if ready >= (len(alive) if quorum is None else quorum):
                return
            hopeless = len(alive) < quorum if quorum is not None else bool(failures(spec, alive))
            if hopeless or time.monotonic() > until:
                raise Conflict(_not_ready(spec.name, len(alive), unready(spec, alive)))
            await asyncio.sleep(_LOOKS_S)

    async def _settled(self) -> Json:
        """Waits until no replica begins an answer on an older generation; says who holds this one.

        Where a replica is cut off that takes as long as its fence (see the package's text).
        """
        known = self.replica.journal.known
        generation, lineage, fence_s = known.generation, known.lineage, known.fence_s
        began = time.monotonic()
        try:
            await self.replica.contact()
            while True:
                alive = await self.replica.present()
                longest_s = PATIENCE * max((one.contact_s for one in alive), default=0.0) + fence_s + _SPARE_S
                held = all(one.settled(generation, lineage) and one.knows_all for one in alive)
                if held or time.monotonic() - began > longest_s:
                    return {"fleet": holders(generation, lineage, alive)}
                await asyncio.sleep(_LOOKS_S)
        except StoreUnreachable as error:
            raise StoreUnreachable(
                f"The change is made, as generation {generation} of the fleet's record, but the store does not answer "
                "any more: who holds it is not known. Look at the fleet's status once it does."
            ) from error


def _not_ready(name: str, replicas: int, waiting: Mapping[str, str]) -> str:
    why = "; ".join(f"{replica}: {reason}" for replica, reason in sorted(waiting.items())) or "they are too few"
    return (
        f"Not enough of the {replicas} live replicas can answer with {name!r} yet ({why}). Nothing was changed: repeat "
        "this later, or name a quorum."
    )


def _row(one: Presence, silent_s: float, alive: bool, generation: int) -> Json:
    return {
        "replica": one.replica,
        "alive": alive,
        "silent_s": round(silent_s, 1),
        "fenced": one.fenced if alive else "it has made no contact with the store",
        "generation": one.holds,
        "seen": one.seen,
        "ready": one.ready,
        "behind": generation - (one.holds or 0),
        "behind_s": round(one.behind_s, 1),
        "active": one.active,
        "digest": one.digest,
        "failed": dict(one.failed),
        "streams": [
            {"name": row.name, "digest": row.digest, "state": row.state, "streams": row.streams} for row in one.rows
        ],
    }
