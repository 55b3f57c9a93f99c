"""The chat use case beneath every wire form: a request in, batches of parts out.

    exchange = Exchange.of(request, body)                    # body: a ChatRequest
    async with open_chat(exchange, body) as chat:            # whatever can be refused (4xx) is refused here
        chat.usage.prompt_tokens                             # known now; the others grow while the answer is read
        async with aclosing(chat.updates()) as updates:      # the work begins with the first batch, ends with the block
            async for batch in updates:                      # at most one update for each choice
                for update in batch:
                    update.index, update.parts, update.steps, update.finish_reason, update.stop_reason

A route streams by yielding bytes for each batch (`replies.sse.stream_response`: an error before the first bytes has its
own HTTP status), or reads all batches and writes one document (`replies.sse.whole_response`). Chat's own JSON is
written in chat/writing.py.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from deltaserve.server.answers.choice_reader import FinishReason
from deltaserve.server.answers.parts import Part
from deltaserve.server.api.chat.prepared import PreparedChat, prepare_chat
from deltaserve.server.api.replies.exchange import Exchange
from deltaserve.server.api.replies.usage import Usage
from deltaserve.server.api.requests.schema import ChatRequest
from deltaserve.server.decoding.stream import Piece, Step
from deltaserve.server.serving.ports import Version


@dataclass(slots=True)
class Update:
    """What one choice has said since the last batch."""

    index: int
    parts: list[Part] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)  # the tokens that led to them, and their log-probabilities
    finish_reason: FinishReason | None = None  # of its last update, and only of that
    stop_reason: int | str | None = None  # the stop string or the id that ended it


@dataclass(frozen=True, slots=True)
class OpenChat:
    """A chat whose version is held, and which may be answered once."""

    exchange: Exchange
    version: Version
    prepared: PreparedChat

    @property
    def usage(self) -> Usage:
        return self.prepared.usage

    @property
    def fingerprint(self) -> str:
        """`system_fingerprint`: the offset version that answers."""
        return self.exchange.serving.fingerprint(self.version)

    @property
    def model(self) -> str:
        """The name that the answer has, as the client asked for it."""
        return self.exchange.request.model or self.exchange.serving.backends.served_name

    async def updates(self) -> AsyncGenerator[list[Update], None]:
        """Starts the answer; closing the generator stops it. Raises what ended it early."""
        chat = self.prepared
        async with self.exchange.serving.answer(self.version, chat.choices, self.exchange.record) as outbox:
            async for batch in outbox:
                yield self._read(batch)

    def _read(self, batch: Sequence[tuple[int, Piece]]) -> list[Update]:
        updates: dict[int, Update] = {}
        for index, piece in batch:
            update = updates.setdefault(index, Update(index))
            update.parts += self.prepared.read(index, piece)
            update.steps += piece.steps
            update.finish_reason = self.prepared.readers[index].finish_reason
            update.stop_reason = self.prepared.readers[index].stop_reason
        return list(updates.values())


@asynccontextmanager
async def open_chat(exchange: Exchange, body: ChatRequest) -> AsyncIterator[OpenChat]:
    """Holds the version and prepares the answer. Raises BadRequest and its kin, ModelNotFound, Unavailable."""
    async with exchange.pinned() as version:
        yield OpenChat(exchange, version, await prepare_chat(body, exchange, version))
