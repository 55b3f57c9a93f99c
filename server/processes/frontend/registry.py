"""The offset versions of the engine process, as requests and operators of a front-end ask for them."""

import math
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from deltaserve.errors import OffsetUnavailable, RateLimited
from deltaserve.server.processes.frontend.link import Connection, EngineLink
from deltaserve.server.processes.frontend.session import RemoteSession
from deltaserve.server.processes.frontend.tokenizers import Tokenizers
from deltaserve.server.processes.wire import messages as m
from deltaserve.server.serving.admission.accounts import Clock
from deltaserve.server.serving.admission.clients import Client, Standing
from deltaserve.server.serving.ports import Json, Tokenizer, Version

if TYPE_CHECKING:
    from pathlib import Path

    from deltaserve.offset_models.registry.audit import Actor

BUSY_S: Final = 1.0  # after a refusal: how long each request is asked about before its body is read
_Cards = list[tuple[str, float, m.VersionFacts]]


@dataclass(frozen=True, slots=True)
class RemoteVersion:
    """A version that the engine process holds; streams can be opened while its pin lasts."""

    facts: m.VersionFacts
    tokenizer: Tokenizer
    connection: Connection
    pin: int
    pair_tokenizer: Tokenizer | None = None

    @property
    def name(self) -> str:
        return self.facts.name

    @property
    def fingerprint(self) -> str:
        return self.facts.fingerprint

    @property
    def max_context(self) -> int:
        return self.facts.max_context

    async def open(self, timeout_s: float, pair_prompt: Sequence[int] | None = None) -> RemoteSession:
        stream = self.connection.new_id()
        own = None if pair_prompt is None else list(pair_prompt)
        try:
            await self.connection.ask(stream, m.Open(stream, self.pin, timeout_s, own))
        except BaseException:
            self.connection.tell(m.Drop(stream))
            raise
        return RemoteSession(self.connection, stream)


@dataclass(frozen=True, slots=True)
class RemoteReservation:
    """`Reservation` of places that the engine process counts."""

    standing: Standing
    connection: Connection
    taken: int

    @asynccontextmanager
    async def place(self, timeout_s: float | None) -> AsyncIterator[None]:
        async with self.connection.holding(lambda place: m.TakePlace(place, self.taken, timeout_s)):
            yield

    def spent(self, tokens: int) -> None:
        self.connection.tell(m.Spend(self.taken, tokens))


class RemoteRegistry:
    """`ports.Offsets` and `admission.Places`: which version answers, and who may run, is decided in the engine process.

    So an activation holds for all front-ends at once, and the bounds are those of the whole server.
    """

    def __init__(self, path: "Path", now: Clock = time.monotonic) -> None:
        self.link = EngineLink(path, self._introduced)
        self._tokenizers = Tokenizers()
        self._served: str | None = None
        self._now = now
        self._busy_until = -math.inf

    @property
    def alive(self) -> bool:
        return self.link.alive

    @asynccontextmanager
    async def pinned(self, model: str | None) -> AsyncIterator[Version]:
        connection = self.link.connection
        async with connection.holding(lambda pin: m.Pin(pin, model)) as (pin, reply):
            facts = msgspec.msgpack.decode(reply.value, type=m.VersionFacts)
            yield await self._version(facts, connection, pin)

    @asynccontextmanager
    async def reserved(self, client: Client, count: int, prompt_tokens: int) -> AsyncIterator[RemoteReservation]:
        connection = self.link.connection
        wanted = connection.holding(lambda taken: m.Reserve(taken, client, count, prompt_tokens))
        async with self._watched_for_refusals(), wanted as (taken, reply):
            yield RemoteReservation(msgspec.msgpack.decode(reply.value, type=Standing), connection, taken)

    async def check_room(self, client: Client) -> None:
        """Asks the engine process for a while after it has refused somebody; else nobody waits for its answer."""
        if self._now() >= self._busy_until:
            return
        with suppress(OffsetUnavailable):  # the request hears of that where it needs a version
            connection = self.link.connection
            asked = connection.new_id()
            async with self._watched_for_refusals():
                await connection.ask(asked, m.CheckRoom(asked, client))

    @asynccontextmanager
    async def _watched_for_refusals(self) -> AsyncIterator[None]:
        try:
            yield
        except RateLimited:
            self._busy_until = self._now() + BUSY_S
            raise

    async def request(self, client: Client) -> Standing:
        connection = self.link.connection
        asked = connection.new_id()
        reply: m.Done = await connection.ask(asked, m.Count(asked, client))
        return msgspec.msgpack.decode(reply.value, type=Standing)

    async def cards(self) -> Sequence[tuple[str, float, Version]]:
        connection = self.link.connection
        cards = await self._ask("cards", _Cards)
        return [(name, loaded_at, await self._version(facts, connection, 0)) for name, loaded_at, facts in cards]

    async def _version(self, facts: m.VersionFacts, connection: Connection, pin: int) -> RemoteVersion:
        tokenizer, pair = await self._tokenizers.of(facts.tokenizer, facts.name), facts.pair_tokenizer
        own = None if pair is None else await self._tokenizers.of(pair, facts.name)
        return RemoteVersion(facts, tokenizer, connection, pin, own)

    async def engine_stats(self) -> Mapping[str, float]:
        stats: dict[str, float] = await self._ask("engine_stats", dict[str, float]) if self.alive else {}
        return stats

    @property
    def max_streams(self) -> int:
        return 0  # the engine process counts those of all front-ends

    async def serve_as(self, name: str) -> None:
        self._served = name
        await self._ask("serve_as", name=name)

    async def listing(self) -> Json:
        return await self._json("listing")

    async def add(
        self, name: str, path: str, *, strength: float | None, activate: bool, wait: bool, actor: "Actor"
    ) -> Json | None:
        order = {"name": name, "path": path, "strength": strength, "activate": activate, "wait": wait}
        shown: Json | None = await self._ask("add", Json | None, **order, actor=asdict(actor))
        return shown

    async def sum(self, name: str, parts: Mapping[str, float | None], *, activate: bool, actor: "Actor") -> Json:
        return await self._json("sum", name=name, parts=dict(parts), activate=activate, actor=asdict(actor))

    async def activate(self, name: str, *, quorum: int | None = None, actor: "Actor") -> Json:
        return await self._json("activate", name=name, quorum=quorum, actor=asdict(actor))

    async def rollback(self, *, quorum: int | None = None, actor: "Actor") -> Json:
        return await self._json("rollback", quorum=quorum, actor=asdict(actor))

    async def set_strength(self, name: str, strength: float, *, actor: "Actor") -> Json:
        return await self._json("set_strength", name=name, strength=strength, actor=asdict(actor))

    async def unload(self, name: str, *, actor: "Actor") -> Json:
        return await self._json("unload", name=name, actor=asdict(actor))

    async def audit(self, limit: int, before: int | None) -> Json:
        return await self._json("audit", limit=limit, before=before)

    async def fleet(self) -> Json:
        return await self._json("fleet")

    async def _json(self, method: str, /, **arguments: Any) -> Json:
        shown: Json = await self._ask(method, Json, **arguments)
        return shown

    async def _ask(self, method: str, kind: Any = None, /, **arguments: Any) -> Any:
        connection = self.link.connection
        asked = connection.new_id()
        reply: m.Done = await connection.ask(asked, m.Ask(asked, method, arguments))
        return msgspec.msgpack.decode(reply.value, type=kind)

    def _introduced(self, connection: Connection) -> None:
        """An engine that was started again learns the name under which clients know it, before it is asked anything."""
        if self._served is not None:
            connection.tell(m.Ask(connection.new_id(), "serve_as", {"name": self._served}))
