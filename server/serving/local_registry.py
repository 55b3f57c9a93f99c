"""The registry of this process, as requests and operators ask it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from deltaserve.errors import BadRequest, DeltaserveError, Unavailable
from deltaserve.server.observability.logs import logger
from deltaserve.server.serving.ports import Json, Version

if TYPE_CHECKING:
    from deltaserve.offset_models.registry.audit import Actor
    from deltaserve.offset_models.registry.registry import Change
    from deltaserve.offset_models.registry.registry import Registry as OffsetRegistry
    from deltaserve.offset_models.registry.version import Version as OffsetVersion


class LocalRegistry:
    """`ports.Offsets` over a registry whose engine runs in this process."""

    def __init__(self, registry: "OffsetRegistry") -> None:
        self.registry = registry
        self._log = logger()
        self._loads: set[asyncio.Task[OffsetVersion]] = set()  # begun by calls that have been answered

    @property
    def alive(self) -> bool:
        return self.registry.alive

    @property
    def max_streams(self) -> int:
        return self.registry.max_streams

    async def engine_stats(self) -> Mapping[str, float]:
        return self.registry.engine_stats()

    @asynccontextmanager
    async def pinned(self, model: str | None) -> AsyncIterator[Version]:
        with self.registry.resolve(model).pin() as version:
            yield version

    async def cards(self) -> Sequence[tuple[str, float, Version]]:
        return self.registry.cards()

    async def serve_as(self, name: str) -> None:
        self.registry.served = name

    async def listing(self) -> Json:
        active = self.registry.active
        return {
            "active": active.name if active else None,
            "memory_bytes": self.registry.memory_bytes,
            "data": self.registry.describe(),
        }

    async def add(
        self, name: str, path: str, *, strength: float | None, activate: bool, wait: bool, actor: "Actor"
    ) -> Json | None:
        accepted = asyncio.Event()
        hear = (lambda: None) if wait else accepted.set
        loading = asyncio.create_task(self._loaded(name, path, strength, activate, actor, hear))
        version = await self._first(loading, accepted, actor)
        return None if version is None else self._shown(version)

    async def _loaded(
        self,
        name: str,
        path: str,
        strength: float | None,
        activate: bool,
        actor: "Actor",
        accepted: Callable[[], None],
    ) -> "OffsetVersion":
        """The whole of a load, as `Registry.load`."""
        return await self.registry.load(
            name, path, strength=strength, activate=activate, actor=actor, accepted=accepted
        )

    async def sum(self, name: str, parts: Mapping[str, float | None], *, activate: bool, actor: "Actor") -> Json:
        version = await self.registry.sum(name, parts, actor=actor)
        if activate:
            await self.registry.activate(name, actor=actor)
        return self._shown(version)

    async def activate(self, name: str, *, quorum: int | None = None, actor: "Actor") -> Json:
        _refuse_quorum(quorum)
        return self._changed(await self.registry.activate(name, actor=actor))

    async def rollback(self, *, quorum: int | None = None, actor: "Actor") -> Json:
        _refuse_quorum(quorum)
        return self._changed(await self.registry.rollback(actor=actor))

    async def set_strength(self, name: str, strength: float, *, actor: "Actor") -> Json:
        return self._shown(await self.registry.set_strength(name, strength, actor=actor))

    async def unload(self, name: str, *, actor: "Actor") -> Json:
        await self.registry.unload(name, actor=actor)
        draining = any(row["name"] == name and row["state"] == "draining" for row in self.registry.describe())
        return {"name": name, "state": "draining" if draining else "unloaded"}

    async def audit(self, limit: int, before: int | None) -> Json:
        log = self.registry.audit
        if log is None:
            raise Unavailable("No audit log is kept: set state_folder.")
        page = await asyncio.to_thread(log.page, limit, before)
        return {"data": list(page.records), "before": page.before, "torn": page.torn}

    async def fleet(self) -> Json:
        active = self.registry.active
        row = {
            "replica": "this server",
            "alive": True,
            "fenced": None,
            "active": active.name if active else None,
            "digest": active.digest if active else None,
            "streams": [
                {key: row[key] for key in ("name", "digest", "state", "streams")}
                for row in self.registry.describe()
                if "streams" in row
            ],
        }
        return {"store": None, "generation": None, "active": row["active"], "replicas": [row]}

    async def _first(
        self, loading: "asyncio.Task[OffsetVersion]", accepted: asyncio.Event, actor: "Actor"
    ) -> "OffsetVersion | None":
        """The load's end, or its being accepted, which leaves it running. Raises what the load raises."""
        waiting = asyncio.create_task(accepted.wait())
        try:
            await asyncio.wait((loading, waiting), return_when=asyncio.FIRST_COMPLETED)
            return loading.result() if loading.done() else None
        finally:
            waiting.cancel()
            if not loading.done():
                self._leave_running(loading, actor.request_id)

    def _leave_running(self, loading: "asyncio.Task[OffsetVersion]", request_id: str) -> None:
        """The registry completes what it began and remembers how it ended; so does the log."""

        def ended(task: "asyncio.Task[OffsetVersion]") -> None:
            self._loads.discard(task)
            error = None if task.cancelled() else task.exception()
            if isinstance(error, DeltaserveError):
                self._log.warning("offset not loaded", id=request_id, reason=error.message)
            elif error is not None:
                self._log.error("defect", id=request_id, error=type(error).__name__)
            elif not task.cancelled():
                self._log.info("offset loaded", id=request_id, offset=task.result().name)

        self._loads.add(loading)
        loading.add_done_callback(ended)

    def _changed(self, change: "Change") -> Json:
        return {"active": self._shown(change.active), "previous": change.previous}

    def _shown(self, version: "OffsetVersion") -> Json:
        return version.describe(self.registry.state_of(version))


def _refuse_quorum(quorum: int | None) -> None:
    if quorum is not None:
        raise BadRequest("This server is not a replica of a fleet: leave `quorum` out.", param="quorum")
