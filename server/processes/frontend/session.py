"""One stream's place in the engine process, as the front-end uses it."""

from collections.abc import Sequence
from dataclasses import replace

import msgspec
import numpy as np

from deltaserve.errors import OffsetUnavailable
from deltaserve.server.decoding.correction import TailPolicy
from deltaserve.server.decoding.deciding.corrector import AnswerSpec, Decision
from deltaserve.server.decoding.protocols import Ids, Proposal
from deltaserve.server.decoding.scoring import ScoredToken
from deltaserve.server.processes.frontend.link import Connection
from deltaserve.server.processes.wire import messages as m
from deltaserve.server.processes.wire.translation import TextSender, decision, listed, names_wanted, scored_token


class RemoteSession:
    """A `CorrectingSession` over a connection. It ends with the connection it was opened on."""

    def __init__(self, connection: Connection, stream: int) -> None:
        self._connection = connection
        self._stream = stream
        self._text = TextSender()
        self._closed = False

    def prefetch(self, token_ids: Sequence[int]) -> None:
        self._connection.tell(m.Prefetch(self._stream, self._text.told(token_ids)))

    def corrector(self, answer: AnswerSpec) -> "RemoteCorrector":
        prompt = self._text.told(answer.prompt_ids)
        params = replace(answer.params, stop=())  # stop strings are the front-end's: they never cross
        self._connection.tell(m.Begin(self._stream, prompt, params, answer.policy, answer.index))
        return RemoteCorrector(self._connection, self._stream)

    async def scores(
        self, token_ids: Sequence[int], start: int, proposals: Sequence[Proposal], tail: TailPolicy, top: int
    ) -> list[ScoredToken]:
        asked, text = self._connection.new_id(), self._text.told(token_ids)
        message = m.Score(asked, self._stream, text, start, [listed(one) for one in proposals], tail, top)
        reply: m.Scores = await self._connection.ask(asked, message)
        return [scored_token(token) for token in reply.tokens]

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._connection.tell(m.Drop(self._stream))


class RemoteCorrector:
    """A `Corrector` whose ids, penalties and noise are kept in the engine process."""

    def __init__(self, connection: Connection, stream: int) -> None:
        self._connection = connection
        self._stream = stream

    def prefetch(self) -> None:
        self._connection.tell(m.Ahead(self._stream))

    async def decide(
        self, run: Sequence[Proposal], draft_temperature: float | None, *, observed: bool = False
    ) -> list[Decision]:
        asked = self._connection.new_id()
        message = m.Decide(asked, self._stream, [listed(one) for one in run], draft_temperature, observed)
        reply: m.Decisions = await self._connection.ask(asked, message)
        if reply.wanted:
            raise names_wanted(reply.wanted, reply.likely)
        if not reply.decisions:
            raise OffsetUnavailable("The offset engine decided nothing.")
        return [decision(one) for one in reply.decisions]

    async def forced(self) -> list[Decision]:
        asked = self._connection.new_id()
        reply: m.Decisions = await self._connection.ask(asked, m.Force(asked, self._stream))
        return [decision(one) for one in reply.decisions]

    async def expected(self) -> int | None:
        asked = self._connection.new_id()
        reply: m.Done = await self._connection.ask(asked, m.Expected(asked, self._stream))
        return msgspec.msgpack.decode(reply.value, type=int | None)

    async def lifted(self) -> Ids:
        asked = self._connection.new_id()
        reply: m.Done = await self._connection.ask(asked, m.Lifted(asked, self._stream))
        return np.array(msgspec.msgpack.decode(reply.value, type=list[int]), np.int64)

    async def draft(self, length: int) -> list[int]:
        asked = self._connection.new_id()
        reply: m.Done = await self._connection.ask(asked, m.DraftBlock(asked, self._stream, length))
        return msgspec.msgpack.decode(reply.value, type=list[int])
