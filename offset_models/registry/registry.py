"""The offsets that are served: loaded beside the running one, activated in one step, rolled back, drained.

Two locks: loads wait for loads; changes of the catalogue wait for each other only. A change is written to the state
file and the audit log, then made visible by one assignment. It is completed even if its caller goes away.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

from pydantic import JsonValue

from deltaserve.errors import BadRequest, Conflict, ModelNotFound, Unavailable
from deltaserve.offset_models.engine.off_loop import in_thread, tell
from deltaserve.offset_models.registry.attempts import MAX_SHOWN, Attempts, reason_of
from deltaserve.offset_models.registry.audit import LOCAL, Actor, AuditPages, Event
from deltaserve.offset_models.registry.builder import VersionBuilder
from deltaserve.offset_models.registry.catalogue import Catalogue
from deltaserve.offset_models.registry.journal import Journal, Writes
from deltaserve.offset_models.registry.restoring import restored
from deltaserve.offset_models.registry.state import VersionSpec
from deltaserve.offset_models.registry.version import Version
from deltaserve.offset_models.registry.weights import WeightsPool

T = TypeVar("T")
Edit = Callable[[Catalogue], Catalogue]
MAX_VERSIONS: Final = 16  # loaded at a time


@dataclass(frozen=True, slots=True)
class Change:
    """What an activation or a rollback did."""

    active: Version
    previous: str | None  # name of the version that was active before


class Registry:
    """Belongs to one event loop. `start` before use, `close` after.

    `root` holds every checkpoint. `served` is the model name clients use. `folder` keeps state and audit log (None:
    nothing survives a restart), unless `writes` keeps them elsewhere. `target`: what else changes the corrected
    distribution; part of every digest.
    """

    def __init__(
        self,
        pool: WeightsPool,
        *,
        root: Path,
        served: str,
        folder: Path | None = None,
        writes: Writes | None = None,
        target: Mapping[str, JsonValue] | None = None,
        max_versions: int = MAX_VERSIONS,
    ) -> None:
        self.served = served
        self._pool = pool
        self._builder = VersionBuilder(pool, root, target or {}, self._free)
        self._journal: Writes = writes or Journal(folder)
        self._max_versions = max_versions
        self._catalogue = Catalogue()
        self._draining: dict[Version, None] = {}
        self._attempts = Attempts()
        self._load_lock = asyncio.Lock()
        self._swap_lock = asyncio.Lock()
        self._running: set[asyncio.Task[Any]] = set()

    # What requests ask

    @property
    def alive(self) -> bool:
        """Whether the engine can answer."""
        return self._pool.engine.alive

    @property
    def max_streams(self) -> int:
        """How many the engine takes at a time."""
        return self._pool.engine.max_streams

    def engine_stats(self) -> dict[str, float]:
        """Counters of the engine since its start, by name."""
        return self._pool.stats()

    @property
    def active(self) -> Version | None:
        return self._catalogue.active

    def resolve(self, model: str | None) -> Version:
        """The active version for `<served>` or None, else `<served>@<offset>`. Raises ModelNotFound, Unavailable."""
        now = self._catalogue
        if model is None or model == self.served:
            if now.active is None:
                raise Unavailable("No offset is active.")
            return now.active
        served, _, offset = model.rpartition("@")
        if served != self.served or offset not in now.versions:
            raise ModelNotFound.among(model, [name for name, _, _ in self.cards()])
        return now.versions[offset]

    def cards(self) -> Sequence[tuple[str, float, Version]]:
        """(model name, loaded at, version): the active one under the served name, then each other one."""
        now = self._catalogue
        first = [(self.served, now.active.loaded_at, now.active)] if now.active else []
        others = [version for _, version in sorted(now.versions.items()) if version is not now.active]
        return first + [(f"{self.served}@{version.name}", version.loaded_at, version) for version in others]

    # What operators see

    def describe(self) -> list[dict[str, Any]]:
        """Every version, then every load that runs or failed, as plain JSON types."""
        versions = [*self._catalogue.all(), *self._draining]
        return [v.describe(self.state_of(v)) for v in versions] + self._attempts.describe()

    def state_of(self, version: Version) -> Literal["active", "ready", "draining"]:
        if version is self._catalogue.active:
            return "active"
        return "draining" if version.retired else "ready"

    @property
    def audit(self) -> AuditPages | None:
        """The log to page through; None where nothing is kept."""
        return self._journal.audit

    @property
    def memory_bytes(self) -> int:
        """Of all loaded weights, each counted once."""
        return self._pool.memory_bytes

    # What operators ask; a failure changes nothing

    async def load(
        self,
        name: str,
        path: str,
        *,
        strength: float | None = None,
        activate: bool = False,
        actor: Actor = LOCAL,
        accepted: Callable[[], None] = lambda: None,
    ) -> Version:
        """Load the checkpoint at `path` (under the root) beside the others. Raises BadCheckpoint, BadRequest, Conflict.

        A name that is loaded with the same digest is left as it is; with another digest it is a Conflict.
        `accepted` is called when the manifest and the name are right and the weights, which take longer, come next.
        """
        return await self._complete("load", name, actor, self._load(name, path, strength, activate, actor, accepted))

    async def activate(self, name: str, *, actor: Actor = LOCAL) -> Change:
        """From the next request on `<served>` is this version; running streams keep theirs. Raises ModelNotFound."""
        work = self._commit("activate", actor, lambda now: now.activated(name), name)
        return self._change(*await self._audited("activate", name, actor, work))

    async def rollback(self, *, actor: Actor = LOCAL) -> Change:
        """Back to the version that was active before, at its strength then. Raises Conflict when there is none."""
        work = self._commit("rollback", actor, Catalogue.rolled_back, None)
        return self._change(*await self._audited("rollback", "", actor, work))

    async def set_strength(self, name: str, strength: float, *, actor: Actor = LOCAL) -> Version:
        """A new version of `name` on the same weights. Running streams keep the old strength. Raises ModelNotFound."""
        return await self._complete("strength", name, actor, self._set_strength(name, strength, actor))

    async def sum(self, name: str, parts: Mapping[str, float | None], *, actor: Actor = LOCAL) -> Version:
        """Several loaded offsets as one: offset name → strength (None: its own). Raises ModelNotFound, Conflict."""
        return await self._complete("sum", name, actor, self._sum(name, parts, actor))

    async def unload(self, name: str, *, actor: Actor = LOCAL) -> None:
        """No new request finds it; freed when its last stream ends. Raises ModelNotFound; Conflict if it is active."""
        await self._complete("unload", name, actor, self._unload(name, actor))

    # What a fleet asks, whose record says what is loaded and active

    @property
    def catalogue(self) -> Catalogue:
        return self._catalogue

    @property
    def builder(self) -> VersionBuilder:
        return self._builder

    async def adopt(self, edit: Edit) -> Catalogue:
        """What others have decided and written down, in one assignment. Streams keep their versions as after a swap."""
        async with self._swap_lock:
            old = self._catalogue
            self._catalogue = edit(old)
            self._retire(old)
            return self._catalogue

    async def prepare(self, spec: VersionSpec) -> Version:
        """Load what `spec` needs; it stays loaded until the version is retired. Raises BadCheckpoint, listed too."""
        self._attempts.begun(spec.name, spec.digest)
        try:
            async with self._load_lock:
                version = await self._builder.build(spec)
        except Exception as error:
            self._attempts.failed(spec.name, spec.digest, reason_of(error))
            raise
        self._attempts.over(spec.name)
        return version

    def failures(self) -> dict[str, str]:
        """Why loads failed that nobody has repeated or taken away: name → reason."""
        return self._attempts.failures()

    # Start and end

    async def start(self, path: str | None = None, strength: float | None = None) -> None:
        """Restore the saved state; if there is none, load and activate the checkpoint at `path`.

        Raises CorruptState for a state that cannot be trusted, BadCheckpoint when the active version cannot be loaded.
        """
        state = await asyncio.to_thread(self._journal.saved)
        if state is None:
            await self._journal.begin()
        if state is not None and state.versions:
            self._catalogue = await restored(state, self._builder, self._journal, self._attempts)
        elif path is not None:
            manifest = await self._builder.manifest(path)
            await self.load(manifest.name, path, strength=strength, activate=True)

    async def close(self) -> None:
        """Finish what was begun and free every version that no stream uses."""
        await asyncio.gather(*self._running, return_exceptions=True)
        async with self._swap_lock:  # a change whose caller has gone may still be on its way to the disk
            pass
        old, self._catalogue = self._catalogue, Catalogue()
        self._retire(old)
        await self._pool.settle()

    # How

    async def _load(
        self,
        name: str,
        path: str,
        strength: float | None,
        activate: bool,
        actor: Actor,
        accepted: Callable[[], None],
    ) -> Version:
        try:
            spec = await self._builder.spec_of(name, path, strength)
            existing = self._existing(self._catalogue, spec)
            if existing is None:
                self._attempts.begun(spec.name, spec.digest)
                accepted()
                async with self._load_lock:  # a load that came first may have been the same one
                    existing = self._existing(self._catalogue, spec)
                    version = existing or await self._load_new(spec, activate, actor)
            else:
                version = existing
        except Exception as error:
            self._attempts.failed(name[:MAX_SHOWN], None, reason_of(error))
            raise
        self._attempts.over(name)
        if activate and existing is not None:
            await self._commit("activate", actor, lambda now: now.activated(name), name)
        return version

    async def _load_new(self, spec: VersionSpec, activate: bool, actor: Actor) -> Version:
        version = await self._builder.build(spec)
        await self._publish("load", actor, version, activate=activate)
        return version

    async def _set_strength(self, name: str, strength: float, actor: Actor) -> Version:
        now = self._catalogue.find(name)
        spec = self._builder.spec(name, strength, now.spec.parts)
        if spec.digest == now.digest:
            return now
        version = self._builder.on_loaded(spec, [now])
        await self._publish("strength", actor, version, replacing=True)
        return version

    async def _sum(self, name: str, parts: Mapping[str, float | None], actor: Actor) -> Version:
        if not parts:
            raise BadRequest("A sum needs at least one loaded offset.", param="sum")
        terms = [(self._catalogue.find(term), alpha) for term, alpha in parts.items()]
        spec = self._builder.sum_spec(name, terms)
        existing = self._existing(self._catalogue, spec)
        if existing is not None:
            return existing
        version = self._builder.on_loaded(spec, [term for term, _ in terms])
        await self._publish("sum", actor, version)
        return version

    async def _unload(self, name: str, actor: Actor) -> None:
        if name not in self._catalogue.versions and name in self._attempts.failures():
            self._attempts.over(name)
            return
        await self._commit("unload", actor, lambda now: now.without(name), name)

    async def _publish(
        self, action: str, actor: Actor, version: Version, *, replacing: bool = False, activate: bool = False
    ) -> None:
        """Put a new version into the catalogue; if that fails it is freed again."""

        def edit(now: Catalogue) -> Catalogue:
            if replacing:
                now.find(version.name)
            else:
                self._existing(now, version.spec)
            added = now.with_version(version)
            return added.activated(version.name) if activate else added

        try:
            await self._commit(action, actor, edit, version.name)
        except BaseException:
            version.retire()
            raise

    def _existing(self, now: Catalogue, spec: VersionSpec) -> Version | None:
        """The version of that name if it is the same one. Raises Conflict when it is another, or one too many."""
        version = now.versions.get(spec.name)
        if version is not None and version.digest != spec.digest:
            raise Conflict(f"An offset {spec.name!r} with another digest is loaded; unload it or choose another name.")
        if version is None and len(now.versions) >= self._max_versions:
            raise Conflict(f"{self._max_versions} offsets are loaded, which is the limit; unload one first.")
        return version

    async def _commit(self, action: str, actor: Actor, edit: Edit, name: str | None) -> tuple[Catalogue, Catalogue]:
        """Replace the catalogue: disk first, then one assignment. Returns old and new. Raises what `edit` raises.

        Once writing has begun it is completed, also when the caller has gone: disk and memory must agree.
        `name`: the version that the audit line is about; None: the one that is active afterwards.
        """
        await self._swap_lock.acquire()
        settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        try:
            old = self._catalogue
            new = edit(old)
            subject = new.active if name is None else new.versions.get(name) or old.versions.get(name)
            event = Event(action, subject.name if subject else "", subject.digest if subject else None, actor, "ok")
        except BaseException:
            self._swap_lock.release()
            raise

        def settle(error: BaseException | None) -> None:
            try:
                if error is None:
                    self._catalogue = new
                    self._retire(old)
            finally:
                self._swap_lock.release()
                tell(settled, error)

        in_thread(lambda: self._journal.commit(old.state(), new.state(), event), settle)
        await settled
        return old, new

    def _retire(self, old: Catalogue) -> None:
        """What the catalogue no longer names goes when its last stream ends."""
        named = self._catalogue.all()
        for version in old.all():
            if version not in named:
                self._draining[version] = None
                version.retire()

    def _free(self, version: Version) -> None:
        self._draining.pop(version, None)
        self._builder.release(version.weights)

    def _change(self, old: Catalogue, new: Catalogue) -> Change:
        if new.active is None:
            raise Unavailable("No offset is active.")
        return Change(new.active, old.active.name if old.active else None)

    async def _complete(self, action: str, name: str, actor: Actor, work: Coroutine[Any, Any, T]) -> T:
        """Run to the end even when the caller is cancelled. Failures are audited."""
        return await self._to_its_end(self._audited(action, name, actor, work))

    async def _audited(self, action: str, name: str, actor: Actor, work: Coroutine[Any, Any, T]) -> T:
        try:
            return await work
        except Exception as error:
            event = Event(action, name[:MAX_SHOWN], None, actor, "failed", reason_of(error))
            await self._to_its_end(self._journal.record(event))
            raise

    async def _to_its_end(self, work: Coroutine[Any, Any, T]) -> T:
        task = asyncio.get_running_loop().create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)
