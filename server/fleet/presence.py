"""What replicas tell of themselves, which of them are alive, and who holds what."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from deltaserve.offset_models.registry.state import VersionSpec
from deltaserve.server.fleet.record import contents

PATIENCE: Final = (
    1.05  # a replica is dead after so many `contact_s`: its clock and the watcher's may differ by a little
)
FORGET_AFTER: Final = 60.0  # the same, until its row is removed


class Row(msgspec.Struct, frozen=True):
    """One version of a replica, and the streams on it."""

    name: str
    digest: str
    state: str
    streams: int


class Presence(msgspec.Struct, frozen=True, kw_only=True):
    """One process of a fleet, as of its last contact. `id` is new at each start: two processes never share a row."""

    id: str
    replica: str  # its name, for people
    count: int = 0  # of contacts
    lineage: str = ""  # of the record that it follows; generations of another one say nothing
    seen: int = 0
    holds: int | None = None
    ready: int | None = None  # newest generation all of whose entries are loaded
    active: str | None = None
    digest: str | None = None  # of the active version
    contents: tuple[str, ...] = ()  # digests of the weights that are loaded and were verified
    failed: Mapping[str, str] = {}  # offset → why it could not be loaded
    rows: tuple[Row, ...] = ()
    fenced: str | None = None
    overdue: bool = False  # fenced until it holds the newest generation that it has seen, whatever else happens
    behind_s: float = 0.0
    contact_s: float = 0.0  # after so long without a contact it is fenced
    forgot_s: float | None = None  # since it saw that the store had forgotten replicas

    def has(self, spec: VersionSpec | None) -> bool:
        """Whether it can answer with `spec` without loading anything."""
        return contents(spec) <= frozenset(self.contents)

    def settled(self, generation: int, lineage: str) -> bool:
        """Whether no answer begins here on anything older than `generation`, now or later.

        One that is overdue and has seen the generation comes back by holding it or a newer one.
        """
        reached = (self.holds or 0) >= generation or (self.overdue and self.seen >= generation)
        return reached and self.lineage == lineage

    @property
    def knows_all(self) -> bool:
        """Whether every replica that may answer is listed: who was forgotten is listed again, or fenced by now."""
        return self.forgot_s is None or self.forgot_s > PATIENCE * self.contact_s


@dataclass(slots=True)
class Watcher:
    """Tells the dead by their counts, which stand still, on the watcher's own clock."""

    _moved: dict[str, tuple[int, float]] = field(default_factory=dict)  # id → (count, when it was first seen)

    def saw(self, now: float, present: Iterable[Presence]) -> None:
        counts = {each.id: each.count for each in present}
        known = self._moved
        self._moved = {
            id: known[id] if id in known and known[id][0] == count else (count, now) for id, count in counts.items()
        }

    def silent_s(self, one: Presence, now: float) -> float:
        """Since its count moved, as far as it was watched."""
        return now - self._moved[one.id][1] if one.id in self._moved else 0.0

    def alive(self, one: Presence, now: float) -> bool:
        """A dead one is fenced by its own clock, wherever it is."""
        return self.silent_s(one, now) <= PATIENCE * one.contact_s

    def forgettable(self, one: Presence, now: float) -> bool:
        return self.silent_s(one, now) > FORGET_AFTER * one.contact_s


def unready(spec: VersionSpec | None, alive: Iterable[Presence]) -> dict[str, str]:
    """Replica → why it could not answer with `spec` at once."""
    missing = [one for one in alive if not one.has(spec)]
    return {one.replica: _why(one, spec) for one in missing}


def _why(one: Presence, spec: VersionSpec | None) -> str:
    return one.failed.get(spec.name if spec else "", "it is still loading")


def failures(spec: VersionSpec | None, alive: Iterable[Presence]) -> list[str]:
    """Replicas that tried to load `spec` and could not."""
    return [one.replica for one in alive if spec is not None and not one.has(spec) and spec.name in one.failed]


def holders(generation: int, lineage: str, present: Iterable[Presence]) -> dict[str, Any]:
    """Who answers with `generation` or a newer one, and who does not answer."""
    listed = [(one.replica, _answers(one, generation, lineage)) for one in present]
    return {
        "generation": generation,
        "holds": sorted(name for name, answers in listed if answers),
        "fenced": sorted(name for name, answers in listed if not answers),
    }


def _answers(one: Presence, generation: int, lineage: str) -> bool:
    return (one.holds or 0) >= generation and one.lineage == lineage and not one.fenced
