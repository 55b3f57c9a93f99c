"""What the admin routes give back."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Offset:
    """One version, or one load that runs or failed; fields are None where there is nothing to say yet."""

    name: str
    state: str  # loading, ready, active, draining, failed
    digest: str | None
    fingerprint: str | None
    strength: float | None
    streams: int | None
    memory_bytes: int | None
    loaded_at: float | None  # seconds since the epoch
    metrics: Mapping[str, Any]
    reason: str | None  # why a load failed

    @classmethod
    def read(cls, body: Json) -> Self:
        known: dict[str, Any] = {field: body.get(field) for field in cls.__dataclass_fields__}
        known |= {"name": str(body["name"]), "state": str(body["state"]), "metrics": known["metrics"] or {}}
        return cls(**known)


@dataclass(frozen=True, slots=True)
class Held:
    """Which replicas of a fleet answer with the generation that a change made; those that are fenced answer nothing."""

    generation: int
    holds: tuple[str, ...]
    fenced: tuple[str, ...]

    @classmethod
    def read(cls, body: Json) -> Self:
        return cls(int(body["generation"]), tuple(body["holds"]), tuple(body["fenced"]))


@dataclass(frozen=True, slots=True)
class Activated:
    """The version that answers now, and the name of the one that did before."""

    active: Offset
    previous: str | None
    fleet: Held | None = None  # None: a server by itself

    @classmethod
    def read(cls, body: Json) -> Self:
        fleet = body.get("fleet")
        return cls(Offset.read(body["active"]), body["previous"], None if fleet is None else Held.read(fleet))


@dataclass(frozen=True, slots=True)
class Unloaded:
    """`state`: unloaded, or draining until its last stream ends."""

    name: str
    state: str

    @classmethod
    def read(cls, body: Json) -> Self:
        return cls(str(body["name"]), str(body["state"]))


@dataclass(frozen=True, slots=True)
class AuditPage:
    """Newest first. `before` asks for the next, older page; None: there is none."""

    records: tuple[Json, ...]
    before: int | None
    torn: int  # lines that a crash left half written

    @classmethod
    def read(cls, body: Json) -> Self:
        return cls(tuple(body["data"]), body["before"], int(body["torn"]))
