"""A fleet in one process: a store in memory that can be cut off from any replica, clocks in the test's hands."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec

from deltaserve.errors import StoreUnreachable
from deltaserve.offset_models.registry.audit import Actor, Event, Page, fields_of
from deltaserve.offset_models.registry.registry import Registry
from deltaserve.offset_models.registry.state import RegistryState
from deltaserve.offset_models.registry.weights import WeightsPool
from deltaserve.server.fleet.joining import Joining, Seed
from deltaserve.server.fleet.journal import FleetJournal
from deltaserve.server.fleet.offsets import FleetOffsets
from deltaserve.server.fleet.presence import Presence
from deltaserve.server.fleet.record import Record, decode, encode
from deltaserve.server.fleet.replica import Replica, Terms
from deltaserve.server.fleet.stores.ports import Stored
from deltaserve.server.observability.logs import logger
from tests.support.offsets import BookkeepingEngine

CONTACT_S = 30.0
FENCE_S = 10.0
_STEPS = 5
WHO = Actor("key", "req-1")


@dataclass
class Shelf:
    """What all see."""

    raw: bytes = b""
    present: dict[str, Presence] = field(default_factory=dict)
    lines: list[dict[str, Any]] = field(default_factory=list)
    forgetful: bool = False

    @property
    def record(self) -> Record:
        return decode(self.raw) if self.raw else Record()


@dataclass
class View:
    """`stores.ports.Store`, as one replica reaches it."""

    shelf: Shelf
    cut: bool = False
    where: str = "a shelf"

    @property
    def forgetful(self) -> bool:
        return self.shelf.forgetful

    def _reach(self) -> Shelf:
        if self.cut:
            raise StoreUnreachable("The fleet's store is cut off: nothing can be changed until it is back.")
        return self.shelf

    def read(self) -> Stored:
        return Stored(self._reach().record, self.shelf.raw)

    def swap(self, mark: bytes, new: Record, event: Event) -> bool:
        if self._reach().raw != mark:
            return False
        self.shelf.raw = encode(new)
        self.append(event)
        return True

    def contact(self, presence: Presence) -> Stored:
        added = presence.id not in self._reach().present
        self._reach().present[presence.id] = msgspec.json.decode(msgspec.json.encode(presence), type=Presence)
        return replace(self.read(), added=added)

    def present(self) -> Sequence[Presence]:
        return list(self._reach().present.values())

    def leave(self, presence: Presence) -> None:
        self._reach().present.pop(presence.id, None)

    def append(self, event: Event) -> None:
        self._reach().lines.append(fields_of(event))

    def page(self, limit: int, before: int | None = None) -> Page:
        return Page(tuple(reversed(self._reach().lines)), None, 0)

    def wait(self, timeout_s: float) -> None:
        time.sleep(0.005)


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Member:
    """One replica, its process running as long as `alive`."""

    name: str
    view: View
    clock: Clock
    engine: BookkeepingEngine
    registry: Registry
    replica: Replica
    offsets: FleetOffsets
    task: "asyncio.Task[None] | None" = None

    def start(self) -> None:
        self.task = asyncio.create_task(self.replica.run())

    async def stop(self) -> None:
        """As a stopped process: nothing runs, nothing is told."""
        task, self.task = self.task, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    @property
    def active(self) -> str | None:
        return self.registry.active.name if self.registry.active else None

    async def answers(self) -> str:
        """The version under which an answer begins here now. Raises ReplicaFenced."""
        async with self.offsets.pinned(None) as version:
            return version.name


@dataclass
class Fleet:
    root: Path
    shelf: Shelf
    members: list[Member] = field(default_factory=list)

    async def add(self, *, path: str | None = "a", kept: RegistryState | None = None, **terms: Any) -> Member:
        member = self.make(**terms)
        member.start()
        joining = Joining(member.replica, member.registry, Seed(lambda: kept, path, None), logger())
        await joining.here()
        return member

    def make(
        self, *, root: Path | None = None, cut: bool = False, clock: Clock | None = None, name: str | None = None
    ) -> Member:
        name, clock = name or f"r{len(self.members) + 1}", clock or Clock(1000.0 * len(self.members))
        view, engine = View(self.shelf, cut), BookkeepingEngine()
        journal = FleetJournal(view, name, FENCE_S)
        root = root or self.root
        registry = Registry(WeightsPool(engine, root), root=root, served="toy", writes=journal, target={})
        replica = Replica(registry, journal, view, Terms(name, 0.005, CONTACT_S), logger(), clock)
        offsets = FleetOffsets(registry, replica, ready_within_s=1.0)
        member = Member(name, view, clock, engine, registry, replica, offsets)
        self.members.append(member)
        return member

    async def pass_time(self, seconds: float) -> None:
        """In steps that are short for a fence, each with a few turns of every replica that runs."""
        for _ in range(_STEPS):
            for member in self.members:
                member.clock.now += seconds / _STEPS
            await asyncio.sleep(0.03)


@asynccontextmanager
async def fleet_of(root: Path, replicas: int, **shelf: Any) -> AsyncIterator[Fleet]:
    """All on the checkpoint `a`; the weights of each are freed at its end."""
    fleet = Fleet(root, Shelf(**shelf))
    try:
        for _ in range(replicas):
            await fleet.add()
        yield fleet
    finally:
        for member in fleet.members:
            await member.stop()
            await member.replica.leave()
            await member.registry.close()
    assert [member.engine.loaded for member in fleet.members] == [{}] * len(fleet.members)
