"""The catalogue that was saved, loaded anew at a start."""

from dataclasses import replace

from deltaserve.errors import CorruptState, DeltaserveError
from deltaserve.offset_models.registry.attempts import Attempts
from deltaserve.offset_models.registry.audit import LOCAL, Event
from deltaserve.offset_models.registry.builder import VersionBuilder
from deltaserve.offset_models.registry.catalogue import Catalogue
from deltaserve.offset_models.registry.journal import Writes
from deltaserve.offset_models.registry.state import RegistryState, VersionSpec
from deltaserve.offset_models.registry.version import Version


async def restored(state: RegistryState, builder: VersionBuilder, journal: Writes, attempts: Attempts) -> Catalogue:
    """What cannot be loaded is reported; for the active version that is fatal. Raises BadCheckpoint, CorruptState."""
    found = Catalogue()
    for spec in state.versions:
        version = await _rebuilt(spec, builder, journal, attempts, required=spec.name == state.active)
        found = found if version is None else found.with_version(version)
    if state.active is not None:
        if state.active not in found.versions:
            raise CorruptState("The state file names an active offset that is not among its versions.")
        found = replace(found, active=found.versions[state.active])
    if state.previous is not None:
        same = found.versions.get(state.previous.name)
        if same is None or same.spec.parts != state.previous.parts or same.strength != state.previous.strength:
            same = await _rebuilt(state.previous, builder, journal, attempts, required=False)
        found = replace(found, previous=same)
    # A crash may have come between state and audit log: this line says what answers from here on.
    active = found.active
    event = Event("restart", active.name if active else "", active.digest if active else None, LOCAL, "ok")
    await journal.record(event)
    return found


async def _rebuilt(
    spec: VersionSpec, builder: VersionBuilder, journal: Writes, attempts: Attempts, *, required: bool
) -> Version | None:
    spec = builder.restored(spec)
    try:
        version = await builder.build(spec)
    except DeltaserveError as error:
        attempts.failed(spec.name, spec.digest, error.message)
        await journal.record(Event("restore", spec.name, spec.digest, LOCAL, "failed", error.message))
        if required:
            raise
        return None
    await journal.record(Event("restore", spec.name, spec.digest, LOCAL, "ok"))
    return version
