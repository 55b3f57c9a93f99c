"""The offset engine: one thread that owns torch and computes the rows of all streams in common batches.

take messages of sessions  →  choose tokens  →  one forward per model  →  rows back to their event loops
"""

import asyncio
import logging
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

from deltaserve.errors import Conflict, OffsetUnavailable
from deltaserve.offset_models.engine.admission import Admission
from deltaserve.offset_models.engine.models import LoadedPair, ModelStore
from deltaserve.offset_models.engine.pair import Pair, PairHandle
from deltaserve.offset_models.engine.session import Session
from deltaserve.offset_models.engine.settings import EngineSettings
from deltaserve.offset_models.engine.streams import EngineStream, Recipe, recipe
from deltaserve.offset_models.engine.worker import Call, Close, EngineStats, Worker

T = TypeVar("T")
Part = tuple[PairHandle, float]  # a loaded pair and its strength α

_log = logging.getLogger(__name__)


class Engine:
    """Sessions over loaded pairs. Its methods may be called from any event loop; `start` and `close` are idempotent."""

    def __init__(self, settings: EngineSettings) -> None:
        self.settings = settings
        self._store = ModelStore(settings)
        self._worker = Worker(self._store, settings)
        self._admission = Admission(settings.max_streams, settings.max_waiting, settings.retry_after_s)
        self._thread = threading.Thread(target=self._run, name="offset-engine", daemon=True)
        self._lock = threading.Lock()  # guards the four below
        self._pairs: dict[PairHandle, LoadedPair] = {}
        self._users: Counter[PairHandle] = Counter()
        self._recipes: dict[tuple[tuple[Part, ...], bool], Recipe] = {}
        self._sessions: set[Session] = set()
        self._loading = threading.Lock()  # one pair is loaded or removed at a time
        self._state = "new"
        self.failure: str | None = None  # why the engine died

    @property
    def alive(self) -> bool:
        """False before start, after close, and once the thread has died."""
        return self._state == "running"

    def start(self) -> None:
        with self._lock:
            if self._state == "new":
                self._state = "running"
                self._thread.start()

    def close(self) -> None:
        """Stop after the running batch; sessions that are open fail. Blocks until the thread has ended."""
        with self._lock:
            running, self._state = self._state == "running", "closed"
        if running:
            self._worker.inbox.put(None)
        if self._thread.ident is not None:
            self._thread.join()

    def stats(self) -> EngineStats:
        """Counters since the start; a copy."""
        return self._worker.figures(streams=len(self._sessions), waiting=self._admission.waiting)

    async def open(self, spec: Sequence[Part], *, timeout_s: float, gated: bool = True) -> Session:
        """A place for one stream corrected by Σ α_j·δ_j of `spec`; the first pair gives the base.

        Without `gated`, rows are as they would be if no pair had a gate.

        Raises RateLimited when the queue is full, Unavailable after `timeout_s` in it, OffsetUnavailable when the
        engine is not alive or a pair is not loaded.
        """
        (session,) = await self.open_each([spec], timeout_s=timeout_s, gated=gated)
        return session

    async def open_each(
        self, specs: Sequence[Sequence[Part]], *, timeout_s: float, gated: bool = True
    ) -> list[Session]:
        """As `open`, a session for each spec: together they are one stream, and none of them waits for another."""
        mixed: list[Recipe] = []
        try:
            for spec in specs:
                mixed.append(self._use(tuple(spec), gated))  # noqa: PERF401  (kept to be given back)
            await self._admission.acquire(sum(map(_need, mixed), Counter()), timeout_s)
        except BaseException:
            for spec, _ in zip(specs, mixed, strict=False):
                self._unuse(spec)
            raise
        sessions = [self._session(recipe, specs[i], streams=int(i == 0)) for i, recipe in enumerate(mixed)]
        if not self.alive:
            for session in sessions:
                session.close()
            raise OffsetUnavailable(self._why())
        return sessions

    def _session(self, mixed: Recipe, spec: Sequence[Part], streams: int) -> Session:
        stream = EngineStream(mixed, self.settings.max_len)
        session = Session(
            stream,
            self._worker.inbox.put,
            lambda closed: self._end(closed, spec, streams),
            self.settings.max_ahead,
            decides=self.settings.decides,
        )
        stream.owner = session
        with self._lock:
            self._sessions.add(session)
        return session

    async def add_pair(self, pair: Pair) -> PairHandle:
        """Load what is missing of a pair beside the running ones. Raises BadCheckpoint, or what its sources raise."""
        self._require_alive()
        loading = asyncio.ensure_future(asyncio.to_thread(self._add, pair))
        try:
            return await asyncio.shield(loading)
        except asyncio.CancelledError:
            loading.add_done_callback(self._discard)
            raise

    async def remove_pair(self, handle: PairHandle) -> None:
        """Unload a pair and free what only it used. Raises Conflict while a session uses it."""
        await asyncio.to_thread(self._remove, handle)

    def pair_bytes(self, handle: PairHandle) -> int:
        """Memory that loading the pair added: weights and the key/value storage of models that were not there."""
        return self._pairs[handle].nbytes

    def _add(self, pair: Pair) -> PairHandle:
        with self._loading:
            prepared = self._store.prepare(pair)
            if prepared.proof is not None:
                prepared.proof.judge(*self._call(lambda: self._store.rehearse(prepared)))
            loaded = self._call(lambda: self._store.install(prepared))
            for model in prepared.models:
                self._admission.add_model(model.key, len(model.pool.slots))
            with self._lock:
                self._pairs[loaded.handle] = loaded
        return loaded.handle

    def _remove(self, handle: PairHandle) -> None:
        with self._loading:
            with self._lock:
                if self._users[handle]:
                    raise Conflict("The pair is in use by a running stream.")
                if self._pairs.pop(handle, None) is None:
                    return
                for key in [(parts, gated) for parts, gated in self._recipes if handle in dict(parts)]:
                    del self._recipes[key]
            for model in self._call(lambda: self._store.remove(handle)):
                self._admission.remove_model(model)

    def _discard(self, loading: "asyncio.Future[PairHandle]") -> None:
        """Unload a pair whose caller has gone, off the event loop."""
        if not loading.cancelled() and loading.exception() is None:
            threading.Thread(target=self._remove, args=(loading.result(),), daemon=True).start()

    def _call(self, function: Callable[[], T]) -> T:
        """Run `function` between two batches, in the engine's thread."""
        self._require_alive()
        future: Future[Any] = Future()
        self._worker.inbox.put(Call(function, future))
        if not self._thread.is_alive():  # it may have ended before it could see the call
            self._worker.refuse_calls(OffsetUnavailable(self._why()))
        result: T = future.result()
        return result

    def _use(self, parts: tuple[Part, ...], gated: bool) -> Recipe:
        """Pin the pairs of a session that is to be opened."""
        self._require_alive()
        with self._lock:
            if not parts or any(handle not in self._pairs for handle, _ in parts):
                raise OffsetUnavailable("The offset is not loaded.")
            mixed = self._recipes.get((parts, gated))
            if mixed is None:
                loaded = [(self._pairs[handle], strength) for handle, strength in parts]
                mixed = self._recipes[parts, gated] = recipe(loaded, gated=gated)
            self._users.update(handle for handle, _ in parts)
            return mixed

    def _unuse(self, parts: Sequence[Part]) -> None:
        with self._lock:
            self._users.subtract(handle for handle, _ in parts)

    def _end(self, session: Session, parts: Sequence[Part], streams: int) -> None:
        """A session closed. Its slots are freed first, so that the next session finds them free."""
        self._worker.inbox.put(Close(session.stream))
        with self._lock:
            self._sessions.discard(session)
        self._unuse(parts)
        self._admission.release(_need(session.stream.recipe), streams)

    def _run(self) -> None:
        try:
            self._worker.run()
        except BaseException as error:  # noqa: BLE001  # whatever it was, nobody may wait for this thread
            self.failure = type(error).__name__
            _log.exception("The offset engine's thread has died.")
            self._state = "dead"
        self._shut()

    def _shut(self) -> None:
        error = OffsetUnavailable(self._why())
        self._admission.close(error.message)
        self._worker.refuse_calls(error)
        with self._lock:
            sessions = list(self._sessions)
        for session in sessions:
            with suppress(RuntimeError):  # its event loop is closed: nobody waits there
                session.loop.call_soon_threadsafe(session.deliver, 0, 0, error)

    def _require_alive(self) -> None:
        if not self.alive:
            raise OffsetUnavailable(self._why())

    def _why(self) -> str:
        reason = {"new": "has not been started", "dead": "has failed"}.get(self._state, "is closed")
        return f"The offset engine {reason}."


def _need(mixed: Recipe) -> Counter[str]:
    return Counter(lane.model.key for lane in mixed.lanes)
