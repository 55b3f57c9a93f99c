"""A replica's registry, brought to the fleet's record: what is loaded at once, the rest when it has been loaded."""

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType

from deltaserve.offset_models.registry.builder import VersionBuilder
from deltaserve.offset_models.registry.catalogue import Catalogue
from deltaserve.offset_models.registry.registry import Registry
from deltaserve.offset_models.registry.state import VersionSpec
from deltaserve.offset_models.registry.version import Version
from deltaserve.server.fleet.record import Record


@dataclass(frozen=True, slots=True)
class Adopted:
    """How far the registry is."""

    generation: int
    holds: bool  # whether the record's active offset answers
    missing: tuple[VersionSpec, ...]  # to be loaded, the active one first


class Following:
    """`newest`: the record to come to; asked under the registry's own lock, so that no older one undoes a change."""

    def __init__(self, registry: Registry, newest: Callable[[], Record]) -> None:
        self._registry = registry
        self._newest = newest

    async def adopt(self) -> Adopted:
        """All that needs no loading, in one assignment."""
        found: list[Adopted] = []

        def edit(now: Catalogue) -> Catalogue:
            record = self._newest()
            catalogue, missing = brought(now, record, self._registry.builder)
            found.append(Adopted(record.generation, _holds(catalogue, record), missing))
            return catalogue

        await self._registry.adopt(edit)
        return found[0]

    async def load(self, spec: VersionSpec) -> Adopted:
        """Load what `spec` needs and adopt it. Raises DeltaserveError, as listed in the registry's failures."""
        version = await self._registry.prepare(self._registry.builder.restored(spec))
        try:
            return await self.adopt()
        finally:
            version.retire()  # the catalogue has its own share of the weights now, or does not want them any more


def _holds(catalogue: Catalogue, record: Record) -> bool:
    if record.active is None:
        return catalogue.active is None
    return catalogue.active is not None and catalogue.active is catalogue.versions.get(record.active)


def brought(now: Catalogue, record: Record, builder: VersionBuilder) -> tuple[Catalogue, tuple[VersionSpec, ...]]:
    """The record's catalogue as far as its weights are loaded, and what is missing.

    Where the record's active offset is not loaded, the one that answers stays: whether it may is `standing`'s matter.
    """
    there: dict[str, Version] = {}
    missing: list[VersionSpec] = []
    for spec in record.versions:
        version = _version(spec, now, builder)
        if version is None:
            missing.append(spec)
        else:
            there[spec.name] = version
    active = now.active if record.active is not None else None
    if record.active in there:
        active = there[record.active]
    previous, lost = _previous(record, there, now, builder)
    missing.sort(key=lambda spec: spec.name != record.active)
    return Catalogue(MappingProxyType(there), active, previous), (*missing, *lost)


def _previous(
    record: Record, there: dict[str, Version], now: Catalogue, builder: VersionBuilder
) -> tuple[Version | None, list[VersionSpec]]:
    """What a rollback goes to, loaded or missing."""
    spec = record.previous
    if spec is None:
        return None, []
    same = there.get(spec.name)
    if same is not None and _is(same, spec, builder):
        return same, []
    version = _version(spec, now, builder)
    return version, [] if version is not None else [spec]


def _version(spec: VersionSpec, now: Catalogue, builder: VersionBuilder) -> Version | None:
    """The one that is there, or one on weights that are; None where they must be loaded."""
    for one in (now.versions.get(spec.name), now.previous, now.active):
        if one is not None and _is(one, spec, builder):
            return one
    return builder.if_loaded(builder.restored(spec))


def _is(version: Version, spec: VersionSpec, builder: VersionBuilder) -> bool:
    """Whether `version` answers as `spec` does under this replica's tail policy and guards."""
    return version.name == spec.name and version.digest == builder.restored(spec).digest and not version.freed


async def load_all(following: Following, adopted: Adopted, given_up: set[str]) -> Adopted:
    """Load what is missing, one after the other; what cannot be loaded is left out, by its digest in `given_up`."""
    while missing := [spec for spec in adopted.missing if spec.digest not in given_up]:
        try:
            adopted = await following.load(missing[0])
        except Exception:  # noqa: BLE001  (the registry lists why; the other entries are loaded all the same)
            given_up.add(missing[0].digest)
            adopted = await following.adopt()
    return adopted
