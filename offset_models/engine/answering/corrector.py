"""A stream's corrector on its event loop, where the engine decides: every question is a message to its thread."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from deltaserve.offset_models.engine.answering.asking import Ask, Begin, DraftBlock, Force, Guess, Lift, Reply, Request
from deltaserve.offset_models.engine.streams import EngineStream
from deltaserve.server.decoding.deciding.corrector import AnswerSpec, Decision
from deltaserve.server.decoding.protocols import Ids, Proposal


class Asking(Protocol):
    """The session behind it."""

    stream: EngineStream

    def tell(self, request: Request) -> None:
        """Send what is not answered."""

    async def ask(self, request: Callable[[Reply], Request]) -> Any:
        """Send a question and wait for its answer. Raises the session's error, also one that comes meanwhile."""


class EngineCorrector:
    """A `Corrector` whose state is the engine's `Answer`."""

    def __init__(self, session: Asking, spec: AnswerSpec) -> None:
        self._session = session
        session.tell(Begin(session.stream, spec))

    def prefetch(self) -> None:
        """The engine goes on by itself."""

    async def decide(
        self, run: Sequence[Proposal], draft_temperature: float | None, *, observed: bool = False
    ) -> list[Decision]:
        stream = self._session.stream
        decisions: list[Decision] = await self._session.ask(
            lambda reply: Ask(stream, run, draft_temperature, observed, reply)
        )
        return decisions

    async def forced(self) -> list[Decision]:
        decisions: list[Decision] = await self._session.ask(lambda reply: Force(self._session.stream, reply))
        return decisions

    async def expected(self) -> int | None:
        token_id: int | None = await self._session.ask(lambda reply: Guess(self._session.stream, reply))
        return token_id

    async def lifted(self) -> Ids:
        ids: Ids = await self._session.ask(lambda reply: Lift(self._session.stream, reply))
        return ids

    async def draft(self, length: int) -> list[int]:
        tokens: list[int] = await self._session.ask(lambda reply: DraftBlock(self._session.stream, length, reply))
        return tokens
