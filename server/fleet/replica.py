"""One process of a fleet: it stays in contact with the store, follows the record, and says whether it may answer."""

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from deltaserve.errors import DeltaserveError, ReplicaFenced
from deltaserve.offset_models.registry.audit import LOCAL, Event
from deltaserve.offset_models.registry.registry import Registry
from deltaserve.server.fleet.following import Adopted, Following, load_all
from deltaserve.server.fleet.journal import FleetJournal
from deltaserve.server.fleet.presence import Presence, Row, Watcher
from deltaserve.server.fleet.record import Record, contents
from deltaserve.server.fleet.standing import Standing
from deltaserve.server.fleet.stores.ports import Store, Stored

_WATCHES_PER_CONTACT: Final = 4  # looks at the other replicas within `contact_s`
_LOADS_AGAIN_S: Final = 30.0  # until a load that failed is tried again


def clock() -> float:
    """Seconds that never go back and count while the machine sleeps, where the system has such a clock."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


@dataclass(frozen=True, slots=True)
class Terms:
    """What an operator sets."""

    replica: str  # name
    poll_s: float
    contact_s: float


class Replica:
    """Belongs to one event loop. `run` until cancelled, then `leave`."""

    def __init__(
        self,
        registry: Registry,
        journal: FleetJournal,
        store: Store,
        terms: Terms,
        log: Any,
        clock: Callable[[], float] = clock,
    ) -> None:
        self.terms = terms
        self.store = store
        self.journal = journal
        self.watcher = Watcher()
        self.standing = Standing()
        self._registry = registry
        self._following = Following(registry, lambda: journal.known)
        self._log = log
        self._clock = clock
        self._adopted = Adopted(0, False, ())
        self._presence = self._new_presence()
        self.first_turn = asyncio.Event()  # has been made, whatever came of it
        self.reached = asyncio.Event()  # the store, once
        self._loading: asyncio.Task[None] | None = None
        self._given_up: set[str] = set()
        self._tried_at = 0.0
        self._watched_at = -float("inf")
        self._listed = ""  # id of the row that was written last
        self._forgot_at: float | None = None  # when the store was seen to have forgotten replicas
        self._trouble = ""  # with the store, as it was logged last
        self._told: str | None = None  # of being fenced, likewise
        self._contacting = asyncio.Lock()
        self._telling: asyncio.Future[Stored] | None = None

    # What requests and operators ask

    @property
    def fence(self) -> str | None:
        """Why no new answer may begin here; None: it may."""
        return self.standing.fence(self._clock(), self.terms.contact_s)

    @property
    def follows(self) -> bool:
        """Whether what answers here is what the record names, as of the last contact."""
        return self._adopted.holds

    def require(self) -> None:
        """Raises ReplicaFenced."""
        if (reason := self.fence) is not None:
            raise ReplicaFenced(f"No answer can begin here for now: {reason}. Other replicas may answer.")

    @property
    def stats(self) -> Mapping[str, float]:
        """For /metrics."""
        silent = self.standing.silent_s(self._clock())
        return {
            "fleet_generation": float(self.standing.seen),
            "fleet_behind": float(self.standing.behind),
            "fleet_fenced": float(self.fence is not None),
            "fleet_silent_s": -1.0 if silent is None else silent,
            "fleet_store_trouble": float(bool(self._trouble)),
        }

    async def contact(self) -> None:
        """Tell the store how this replica is, read the record and come to it. Raises StoreUnreachable, CorruptState.

        Told again, where it changed anything, so that whoever waits for it hears so.
        """
        async with self._contacting:
            await self._contact()
            told = self._presence
            await self._follow()
            known = self.journal.known
            if self._described().settled(known.generation, known.lineage) != told.settled(
                known.generation, known.lineage
            ):
                await self._contact()

    async def present(self) -> list[Presence]:
        """Every replica that is alive, as far as this one has watched. Raises StoreUnreachable."""
        return [one for one, _, alive in await self.listed() if alive]

    async def listed(self) -> list[tuple[Presence, float, bool]]:
        """(replica, seconds since its last contact as far as this one has watched, whether it is alive).

        Silent for how long is known as of the question: the list may be old by the time it arrives.
        """
        asked = self._clock()
        found = await asyncio.to_thread(self.store.present)
        self.watcher.saw(self._clock(), found)
        return [(one, max(self.watcher.silent_s(one, asked), 0.0), self.watcher.alive(one, asked)) for one in found]

    # The loop

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            await self.keep()
            await asyncio.to_thread(self.store.wait, self.terms.poll_s)

    async def keep(self) -> None:
        """One turn: nothing that goes wrong with the store ends the loop."""
        try:
            await self.contact()
            await self._watch()
            self._say_trouble("")
        except DeltaserveError as error:
            self._say_trouble(error.message)
        except Exception as error:  # noqa: BLE001  (a defect must not end the contact; the fence tells by itself)
            self._say_trouble(f"A defect: {type(error).__name__}.")
        self._say_fence()
        self.first_turn.set()

    async def loaded(self) -> None:
        """Until everything that the record names is loaded, or could not be."""
        while (loading := self._loading) is not None and not loading.done():
            await asyncio.wait([loading])

    async def leave(self) -> None:
        """Nobody waits for this replica any more. What was begun ends first."""
        if self._loading is not None:
            self._loading.cancel()
            with suppress(asyncio.CancelledError):
                await self._loading
        if self._telling is not None:
            await asyncio.gather(self._telling, return_exceptions=True)
        with suppress(DeltaserveError):
            await asyncio.to_thread(self.store.leave, self._presence)

    async def _tell(self) -> Stored:
        """The row written, the record read. It goes on where its caller is cancelled; `leave` waits for it."""
        self._telling = asyncio.ensure_future(asyncio.to_thread(self.store.contact, self._presence))
        return await asyncio.shield(self._telling)

    async def _contact(self) -> None:
        began = self._clock()
        silent = self.standing.silent_s(began)
        if silent is not None and silent > self.terms.contact_s:
            # Taken for dead by others, who may forget that row at any moment: this replica comes back as another one.
            await asyncio.to_thread(self.store.leave, self._presence)
            self._presence = self._new_presence()
        self._presence = self._described()
        known = self.journal.known
        stored = await self._tell()
        if self._forgetting(stored, known):
            self._forgot_at = self._clock()
            self._log.warning("the fleet's store may have forgotten replicas: changes wait for them")
            self._presence = self._described()  # told before the record is put back, after which others may change it
            stored = await self._tell()
        self._listed = self._presence.id
        stored = await self._mended(stored)
        if stored.record.foreign(self.journal.known):
            self._begin_anew(stored.record)
        self.journal.learn(stored.record)
        known = self.journal.known
        silent = self.standing.silent_s(self._clock())  # until now: a contact that took long may have come too late
        before = self.standing if silent is None or silent <= self.terms.contact_s else self.standing.lapsed()
        self.standing = before.heard(began, known.generation, known.fence_s)
        self.reached.set()

    def _forgetting(self, stored: Stored, known: Record) -> bool:
        """Whether replicas may answer that have no row in the store: it lost this one's, or the record.

        `known`: the newest record when the contact began.
        """
        first, older = self.standing.heard_at is None, stored.record.generation < known.generation
        empty = self.store.forgetful and first and stored.record.generation == 0
        return (
            (stored.added and self._listed == self._presence.id)
            or (older and not stored.record.foreign(known))
            or empty
        )

    async def _mended(self, stored: Stored) -> Stored:
        """A store that came back without the newest record gets it again from those who have it."""
        known = self.journal.known
        if stored.record.foreign(known):
            return stored  # others began anew and changes of it were answered: what is known here holds no more
        if stored.record.generation >= known.generation:
            if stored.record.generation == known.generation > 0 and stored.record != known:
                self._log.error("the fleet's store lost a change", generation=known.generation)
            return stored
        active = known.active_spec
        event = Event("restored", known.active or "", active.digest if active else None, LOCAL, "ok")
        if await asyncio.to_thread(self.journal.restore, stored, event):
            has = stored.record.generation
            self._log.error("the fleet's store had lost a change", has=has, restored=known.generation)
        return await asyncio.to_thread(self.store.read)

    def _begin_anew(self, record: Record) -> None:
        """Nothing that was seen or held of the record before counts."""
        known = self.journal.known
        self._log.error("the fleet's record was begun anew", before=known.generation, now=record.generation)
        self.standing = Standing().lapsed()
        self._adopted = Adopted(0, False, ())

    async def _follow(self) -> None:
        self._took(await self._following.adopt())
        if self._clock() - self._tried_at > _LOADS_AGAIN_S:
            self._given_up.clear()
        if (self._loading is None or self._loading.done()) and self._to_load:
            self._tried_at = self._clock()
            self._loading = asyncio.create_task(self._load())

    @property
    def _to_load(self) -> bool:
        return any(spec.digest not in self._given_up for spec in self._adopted.missing)

    async def _load(self) -> None:
        self._took(await load_all(self._following, self._adopted, self._given_up))
        for name, reason in self._registry.failures().items():
            self._log.warning("offset not loaded", offset=name, reason=reason)

    def _took(self, adopted: Adopted) -> None:
        self._adopted = adopted
        if adopted.holds:
            self.standing = self.standing.converged(adopted.generation)

    async def _watch(self) -> None:
        """The other replicas, often enough to know the dead; rows of the long dead go."""
        asked = self._clock()
        if asked - self._watched_at < self.terms.contact_s / _WATCHES_PER_CONTACT:
            return
        self._watched_at = asked
        for one, _, _ in await self.listed():
            if self.watcher.forgettable(one, asked):
                await asyncio.to_thread(self.store.leave, one)

    # What it tells

    def _new_presence(self) -> Presence:
        return Presence(
            id=f"{self.terms.replica}.{secrets.token_hex(6)}",
            replica=self.terms.replica,
            contact_s=self.terms.contact_s,
        )

    def _described(self) -> Presence:
        catalogue, standing, before = self._registry.catalogue, self.standing, self._presence
        active = catalogue.active
        loaded = {content for version in catalogue.all() for content in contents(version.spec)}
        complete = standing.holds is not None and not self._adopted.missing
        return Presence(
            id=before.id,
            replica=before.replica,
            count=before.count + 1,
            contact_s=before.contact_s,
            lineage=self.journal.known.lineage,
            seen=standing.seen,
            holds=standing.holds,
            ready=self._adopted.generation if complete else before.ready,
            active=active.name if active else None,
            digest=active.digest if active else None,
            contents=tuple(sorted(loaded)),
            failed=self._registry.failures(),
            rows=tuple(
                Row(row["name"], row["digest"], row["state"], row["streams"])
                for row in self._registry.describe()
                if "streams" in row
            ),
            fenced=self.fence,
            forgot_s=None if self._forgot_at is None else self._clock() - self._forgot_at,
            overdue=standing.overdue(self._clock()),
            behind_s=standing.behind_s(self._clock(), self.journal.known.fence_s, before.contact_s),
        )

    def _say_trouble(self, reason: str) -> None:
        """A line when it begins, changes or ends, not one for every turn."""
        if reason and reason != self._trouble:
            self._log.error("fleet store trouble", reason=reason)
        elif self._trouble and not reason:
            self._log.info("fleet store reached again")
        self._trouble = reason

    def _say_fence(self) -> None:
        reason = self.fence
        if (reason is None) == (self._told is None):
            return
        if reason is not None:
            say = self._log.info if self.standing.holds is None else self._log.error  # each one is at its start
            say("fenced", reason=reason)
        else:
            self._log.info("not fenced any more", generation=self.standing.holds)
        self._told = reason
