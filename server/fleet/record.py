"""The fleet's record: what is loaded and which offset answers, with a generation that grows by each change."""

from collections.abc import Mapping
from secrets import token_hex
from typing import Annotated, Any

from pydantic import Field, ValidationError

from deltaserve.errors import Conflict, CorruptState
from deltaserve.offset_models.registry.registry import MAX_VERSIONS
from deltaserve.offset_models.registry.state import (
    FLEET_FORMAT,
    STATE_FORMAT,
    RegistryState,
    VersionSpec,
    sealed,
    unsealed,
)


class Record(RegistryState):
    """A registry's state that many replicas converge to. Generation 0: nobody has written one yet."""

    format: int = FLEET_FORMAT
    generation: Annotated[int, Field(ge=0)] = 0
    fence_s: Annotated[float, Field(gt=0)] = 10.0  # from when a replica sees this generation to when it must hold it

    lineage: str = ""  # made with the first change: a record that was begun anew has another one
    # Number of the last change that a deployment's configuration asked for (`asked`). Left out where there was none, so
    # that replicas of an earlier release can read the record.
    change: Annotated[int, Field(ge=0, exclude_if=lambda number: number == 0)] = 0

    def foreign(self, other: "Record") -> bool:
        """Whether neither came out of the other: then their generations cannot be compared."""
        return bool(self.lineage and other.lineage) and self.lineage != other.lineage

    def next(self, **changes: Any) -> "Record":
        lineage = self.lineage or token_hex(8)
        return self.model_copy(update={"generation": self.generation + 1, "lineage": lineage, **changes})

    @property
    def active_spec(self) -> VersionSpec | None:
        return next((spec for spec in self.versions if spec.name == self.active), None)


def encode(record: Record) -> bytes:
    return sealed(record)


def decode(raw: bytes) -> Record:
    """Also of a single server's state file, which is the first generation. Raises CorruptState."""
    body = unsealed(raw, "The fleet's record")
    if body.get("format") == STATE_FORMAT:
        # A single server writes an empty state before its first change: nobody has chosen anything then.
        body = {**body, "format": FLEET_FORMAT, "generation": 1 if body.get("versions") else 0}
    if body.get("format") != FLEET_FORMAT:
        raise CorruptState(f"The fleet's record is of format {body.get('format')}; this program reads {FLEET_FORMAT}.")
    try:
        return Record.model_validate(body)
    except ValidationError as error:
        raise CorruptState("What the store holds is not the record of a fleet.") from error


def merged(record: Record, old: RegistryState, new: RegistryState, fence_s: float) -> Record:
    """The change from `old` to `new`, which one replica made to what it has, as a change of the record.

    What `old` lacks, because it could not be loaded there, stays. Raises Conflict where others changed the same thing.
    """
    before, after, there = ({spec.name: spec for spec in state.versions} for state in (old, new, record))
    versions = dict(there)
    for name in before.keys() | after.keys():
        if not _same(before.get(name), after.get(name)):
            _change(versions, name, before.get(name), after.get(name))
    active = _pointer("the active offset", record.active, old.active, new.active)
    previous = record.previous if _same(old.previous, new.previous) else new.previous
    _check(versions, active)
    listed = tuple(versions[name] for name in sorted(versions))
    return record.next(versions=listed, active=active, previous=previous, fence_s=fence_s)


def without(record: Record, name: str) -> Record:
    """The record without an entry that the replica itself could not load. Raises Conflict."""
    versions = {spec.name: spec for spec in record.versions if spec.name != name}
    _check(versions, record.active)
    previous = None if record.previous is not None and record.previous.name == name else record.previous
    return record.next(versions=tuple(versions.values()), previous=previous)


def activated(record: Record, name: str, seen: Record) -> Record:
    """`name` active, by an operator who saw `seen`. Raises Conflict where others changed what is active since."""
    _refuse_overtaken(record, seen)
    versions = {spec.name: spec for spec in record.versions}
    _check(versions, name)
    return record.next(active=name, previous=record.active_spec)


def rolled_back(record: Record, seen: Record) -> Record:
    """As `activated`, with what was active before."""
    _refuse_overtaken(record, seen)
    back = record.previous
    if back is None:
        raise Conflict("There is no previously active offset to roll back to.")
    versions = {**{spec.name: spec for spec in record.versions}, back.name: back}
    _check(versions, back.name)
    listed = tuple(versions[name] for name in sorted(versions))
    return record.next(versions=listed, active=back.name, previous=record.active_spec)


def asked(record: Record, name: str, change: int) -> Record:
    """`name` active, because change number `change` of a deployment's configuration says so. Raises Conflict.

    A number that the record has seen is refused: a configuration is repeated to every replica, also to one that starts
    long after an operator has activated something else.
    """
    if change <= record.change:
        raise Conflict(f"Change {change} was made before: the last one was {record.change}.")
    _check({spec.name: spec for spec in record.versions}, name)
    if record.active == name:
        return record.next(change=change)
    return record.next(active=name, previous=record.active_spec, change=change)


def _refuse_overtaken(record: Record, seen: Record) -> None:
    if (record.active, record.previous) != (seen.active, seen.previous):
        raise Conflict(
            f"Another operator changed the active offset in the meantime (it is {record.active!r}): look at it, then "
            "repeat."
        )


def contents(spec: VersionSpec | None) -> frozenset[str]:
    """Digests of the weights that a version runs on."""
    return frozenset() if spec is None else frozenset(part.content for part in spec.parts)


def _same(one: VersionSpec | None, other: VersionSpec | None) -> bool:
    """Equal answers under one name. Tail policy and guards are each replica's own settings and no part of it."""
    return _identity(one) == _identity(other)


def _identity(spec: VersionSpec | None) -> object:
    return spec and (spec.name, spec.strength, [(part.content, part.weight) for part in spec.parts])


def _change(versions: dict[str, VersionSpec], name: str, before: VersionSpec | None, after: VersionSpec | None) -> None:
    there = versions.get(name)
    if _same(there, after):
        return
    if not _same(there, before):
        raise Conflict(f"Another operator changed the offset {name!r} in the meantime: look at it, then repeat this.")
    if after is None:
        versions.pop(name, None)
    else:
        versions[name] = after


def _pointer(what: str, there: str | None, before: str | None, after: str | None) -> str | None:
    if before == after:
        return there
    if there not in (before, after):
        raise Conflict(f"Another operator changed {what} in the meantime (it is {there!r}): look at it, then repeat.")
    return after


def _check(versions: Mapping[str, VersionSpec], active: str | None) -> None:
    if active is not None and active not in versions:
        raise Conflict(f"{active!r} is active, or was unloaded in the meantime; look at the offsets, then repeat.")
    if len(versions) > MAX_VERSIONS:
        raise Conflict(f"{MAX_VERSIONS} offsets are loaded, which is the limit; unload one first.")
