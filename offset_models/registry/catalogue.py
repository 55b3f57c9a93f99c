"""The versions, the active one and the one a rollback goes to: one immutable value that is replaced as a whole."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from deltaserve.errors import Conflict, ModelNotFound
from deltaserve.offset_models.registry.state import RegistryState
from deltaserve.offset_models.registry.version import Version

EMPTY: Mapping[str, Version] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Every change makes a new one; the old one stays as it is."""

    versions: Mapping[str, Version] = field(default_factory=lambda: EMPTY)
    active: Version | None = None
    previous: Version | None = None

    def find(self, name: str) -> Version:
        """Raises ModelNotFound."""
        if name not in self.versions:
            raise ModelNotFound(f"There is no loaded offset {name!r}.")
        return self.versions[name]

    def with_version(self, version: Version) -> "Catalogue":
        """`version` under its name. In the active one's place it is active too, and a rollback undoes it."""
        replaced = self.versions.get(version.name)
        changed = replace(self, versions=MappingProxyType({**self.versions, version.name: version}))
        if replaced is not None and replaced is self.active:
            return replace(changed, active=version, previous=replaced)
        return changed

    def activated(self, name: str) -> "Catalogue":
        """Raises ModelNotFound."""
        version = self.find(name)
        return self if version is self.active else replace(self, active=version, previous=self.active)

    def rolled_back(self) -> "Catalogue":
        """The previous version active again, under its name; the next rollback comes back here. Raises Conflict."""
        if self.previous is None:
            raise Conflict("There is no previously active offset to roll back to.")
        versions = MappingProxyType({**self.versions, self.previous.name: self.previous})
        return Catalogue(versions, active=self.previous, previous=self.active)

    def without(self, name: str) -> "Catalogue":
        """Raises ModelNotFound; Conflict for the active version."""
        version = self.find(name)
        if version is self.active:
            raise Conflict(f"{name!r} is active; activate another offset first.")
        versions = MappingProxyType({other: v for other, v in self.versions.items() if other != name})
        forgotten = self.previous is not None and self.previous.name == name
        return Catalogue(versions, self.active, None if forgotten else self.previous)

    def all(self) -> dict[Version, None]:
        """Every version that must stay loaded, in order of name, the one kept only for a rollback last."""
        listed = [self.versions[name] for name in sorted(self.versions)]
        return dict.fromkeys([*listed, *filter(None, [self.active, self.previous])])

    def state(self) -> RegistryState:
        """What the state file keeps of it."""
        return RegistryState(
            versions=tuple(self.versions[name].spec for name in sorted(self.versions)),
            active=self.active.name if self.active else None,
            previous=self.previous.spec if self.previous else None,
        )
