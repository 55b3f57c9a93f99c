"""One front-end, as the engine process sees it: what it asks, and what it holds until it drops it or ends."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final

import msgspec

from deltaserve.errors import DeltaserveError, Unavailable
from deltaserve.offset_models.registry.audit import Actor
from deltaserve.server.processes.engine.stream import EngineSide
from deltaserve.server.processes.wire import messages as m
from deltaserve.server.processes.wire.frames import Wire
from deltaserve.server.processes.wire.translation import fault
from deltaserve.server.processes.wire.version_facts import facts
from deltaserve.server.serving.admission.places import Places, Reservation
from deltaserve.server.serving.ports import Offsets, Version

# What `Ask` may name.
ASKED: Final = frozenset(
    {
        "engine_stats",
        "serve_as",
        "cards",
        "listing",
        "add",
        "sum",
        "activate",
        "rollback",
        "set_strength",
        "unload",
        "audit",
        "fleet",
    }
)
_encode: Final = msgspec.msgpack.Encoder(enc_hook=str).encode


class FrontEnd:
    """Answers one connection. `log` hears of defects, by their place in the code alone."""

    def __init__(self, offsets: Offsets, places: Places, log: Any) -> None:
        self.wire: Wire[m.ToEngine] = Wire(m.to_engine, self._received, self._lost, self._unsent)
        self._offsets = offsets
        self._places = places
        self._log = log
        self._held: dict[int, asyncio.Task[None]] = {}
        self._asked: set[asyncio.Task[None]] = set()
        self._versions: dict[int, Version] = {}
        self._streams: dict[int, EngineSide] = {}
        self._reservations: dict[int, Reservation] = {}
        self._handlers: Mapping[type[Any], Callable[[Any], None]] = {
            m.Pin: lambda pin: self._hold(pin.id, self._pinned(pin)),
            m.Ping: lambda ping: self.wire.send(m.Done(ping.id)),
            m.Count: lambda asked: self._start(self._answer(asked.id, self._places.request(asked.client))),
            m.CheckRoom: lambda asked: self._start(self._answer(asked.id, self._places.check_room(asked.client))),
            m.Reserve: lambda asked: self._hold(asked.id, self._reserved(asked)),
            m.TakePlace: lambda asked: self._hold(asked.id, self._placed(asked)),
            m.Spend: self._spend,
            m.Open: lambda opening: self._hold(opening.id, self._opened(opening)),
            m.Drop: self._drop,
            m.Ask: lambda ask: self._start(self._answer(ask.id, self._ask(ask))),
        }

    def _received(self, message: m.ToEngine) -> None:
        handler = self._handlers.get(type(message))
        if handler is not None:
            handler(message)
        elif stream := self._streams.get(message.stream):  # type: ignore[union-attr]
            stream.received(message)
        elif hasattr(message, "id"):
            self.wire.send(m.Failed(message.id, fault(Unavailable("The stream has ended."))))

    def _unsent(self, message: Any, why: Exception) -> None:
        self._fail(message.id, why)

    def _lost(self) -> None:
        for task in [*self._held.values(), *self._asked]:
            task.cancel()

    def _drop(self, drop: m.Drop) -> None:
        if task := self._held.get(drop.id):
            task.cancel()

    def _hold(self, taken: int, context: AbstractAsyncContextManager[bytes]) -> None:
        task = self._held[taken] = asyncio.create_task(self._until_dropped(taken, context))
        task.add_done_callback(lambda _: self._held.pop(taken, None))

    async def _until_dropped(self, taken: int, context: AbstractAsyncContextManager[bytes]) -> None:
        """The context's value is the answer. That the task is cancelled is how the context is left."""
        try:
            async with context as value:
                self.wire.send(m.Done(taken, msgspec.Raw(value)))
                await asyncio.get_running_loop().create_future()
        except Exception as error:  # noqa: BLE001  (told to the front-end, which raises it)
            self._fail(taken, error)

    @asynccontextmanager
    async def _pinned(self, pin: m.Pin) -> AsyncIterator[bytes]:
        async with self._offsets.pinned(pin.model) as version:
            self._versions[pin.id] = version
            try:
                yield _encode(facts(version))
            finally:
                del self._versions[pin.id]

    @asynccontextmanager
    async def _reserved(self, asked: m.Reserve) -> AsyncIterator[bytes]:
        async with self._places.reserved(asked.client, asked.count, asked.prompt_tokens) as reservation:
            self._reservations[asked.id] = reservation
            try:
                yield _encode(reservation.standing)
            finally:
                del self._reservations[asked.id]

    @asynccontextmanager
    async def _placed(self, asked: m.TakePlace) -> AsyncIterator[bytes]:
        async with self._reservations[asked.reservation].place(asked.timeout_s):
            yield _encode(None)

    def _spend(self, spent: m.Spend) -> None:
        if reservation := self._reservations.get(spent.reservation):
            reservation.spent(spent.tokens)

    @asynccontextmanager
    async def _opened(self, opening: m.Open) -> AsyncIterator[bytes]:
        version = self._versions[opening.pin]
        session = await version.open(opening.timeout_s, opening.pair_prompt)
        try:
            stream = self._streams[opening.id] = EngineSide(session, self.wire.send, self._fail, version.tokenizer)
            try:
                yield _encode(None)
            finally:
                del self._streams[opening.id]
                stream.end()
        finally:
            session.close()

    async def _answer(self, asked: int, work: Coroutine[Any, Any, Any]) -> None:
        try:
            self.wire.send(m.Done(asked, msgspec.Raw(_encode(await work))))
        except Exception as error:  # noqa: BLE001  (told to the front-end, which raises it)
            self._fail(asked, error)

    async def _ask(self, ask: m.Ask) -> Any:
        if ask.method not in ASKED:
            raise RuntimeError("a method that cannot be asked")
        arguments = ask.arguments
        if "actor" in arguments:
            arguments = {**arguments, "actor": Actor(**arguments["actor"])}
        value = await getattr(self._offsets, ask.method)(**arguments)
        if ask.method == "cards":
            return [(name, loaded_at, facts(version)) for name, loaded_at, version in value]
        return value

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._asked.add(task)
        task.add_done_callback(self._asked.discard)

    def _fail(self, asked: int, error: Exception) -> None:
        if not isinstance(error, DeltaserveError):
            self._log.error("defect", error=type(error).__name__, at=places_of(error))
        self.wire.send(m.Failed(asked, fault(error)))


def places_of(error: BaseException) -> list[str]:
    """File and line of each frame, without source lines or values."""
    at, where = error.__traceback__, []
    while at is not None:
        where.append(f"{at.tb_frame.f_code.co_filename}:{at.tb_lineno}")
        at = at.tb_next
    return where
