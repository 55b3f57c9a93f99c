"""Where the registry of a replica writes its changes down: the fleet's record and the fleet's audit log."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Final

from deltaserve.errors import StoreUnreachable, Unavailable
from deltaserve.offset_models.registry.audit import Event
from deltaserve.offset_models.registry.state import RegistryState
from deltaserve.server.fleet.record import Record, merged
from deltaserve.server.fleet.stores.ports import Store, Stored

_ATTEMPTS: Final = 8  # others may change other things at the same moment


class FleetJournal:
    """`journal.Writes` over a store. Knows the newest record that this replica has read or written."""

    def __init__(self, store: Store, replica: str, fence_s: float) -> None:
        self._store = store
        self._replica = replica
        self._fence_s = fence_s
        self._lock = threading.Lock()
        self._known = Record()

    @property
    def audit(self) -> Store:
        return self._store

    @property
    def known(self) -> Record:
        return self._known

    def learn(self, record: Record) -> None:
        """What the store holds. An older one is no news: a change was written while it was read."""
        with self._lock:
            if record.foreign(self._known) or record.generation >= self._known.generation:
                self._known = record

    def saved(self) -> RegistryState | None:
        """None: a replica gets its versions from the record, as it does later (`following`)."""
        return None

    async def begin(self) -> None:
        """The store is asked before anything is loaded."""

    def commit(self, old: RegistryState, new: RegistryState, event: Event) -> None:
        """Raises Conflict where another operator changed the same thing, StoreUnreachable."""
        for _ in range(_ATTEMPTS):
            stored = self._fresh()
            record = merged(stored.record, old, new, self._fence_s)
            if self._written(stored, record, event):
                return
        raise Unavailable("Others change the fleet's record all the time: nothing was changed. Try again.")

    def change(self, edit: Callable[[Record], Record], event: Event) -> None:
        """A change of the record itself, by a replica whose registry lacks what is in it.

        Raises what `edit` raises, StoreUnreachable.
        """
        for _ in range(_ATTEMPTS):
            stored = self._fresh()
            if self._written(stored, edit(stored.record), event):
                return
        raise Unavailable("Others change the fleet's record all the time: nothing was changed. Try again.")

    async def record(self, event: Event) -> None:
        """Not where the store is away: whoever asked for the change hears why that failed, and what is not known."""
        line = replace(event, replica=self._replica, generation=self._known.generation)
        with suppress(StoreUnreachable):
            await asyncio.to_thread(self._store.append, line)

    def restore(self, lost: Stored, event: Event) -> bool:
        """The record that this replica knows, in the place of an older one: a store that came back had forgotten it."""
        known = self._known
        return self._store.swap(lost.mark, known, self._line(event, known.generation))

    def _fresh(self) -> Stored:
        """Raises Unavailable where the store has forgotten what this replica knows."""
        stored = self._store.read()
        if stored.record.generation < self._known.generation:
            raise Unavailable(
                "The fleet's store came back without its last change, which is put back first. Try again."
            )
        return stored

    def _written(self, stored: Stored, record: Record, event: Event) -> bool:
        if _alike(stored.record, record):
            self._store.append(self._line(event, stored.record.generation))
            self.learn(stored.record)
            return True
        if not self._store.swap(stored.mark, record, self._line(event, record.generation)):
            return False
        self.learn(record)
        return True

    def _line(self, event: Event, generation: int) -> Event:
        return replace(event, replica=self._replica, generation=generation)


def _alike(one: Record, other: Record) -> bool:
    """But for the generation."""
    kept = ("versions", "active", "previous", "change")
    return all(getattr(one, name) == getattr(other, name) for name in kept)
