"""What completions and chat do alike: run the choices, count tokens, write frames or one document."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import replace

from starlette.requests import Request
from starlette.responses import Response

from deltaserve.server.api.replies.exchange import Exchange
from deltaserve.server.api.replies.sse import DONE, stream_response, whole_response
from deltaserve.server.api.replies.usage import Usage
from deltaserve.server.api.replies.writers import ChoiceBuffer, Envelope
from deltaserve.server.api.requests.schema import Generation
from deltaserve.server.decoding.stream import Piece
from deltaserve.server.serving.ports import Version
from deltaserve.server.serving.service import Choice

_SPELLED_AT_ONCE = 256  # tokens of a scored prompt, each with up to max_logprobs alternatives


class Reply(ABC):
    """The wire form of one request's choices."""

    def __init__(
        self,
        exchange: Exchange,
        envelope: Envelope,
        choices: Sequence[Choice],
        buffers: Sequence[ChoiceBuffer],
        usage: Usage | None = None,
    ) -> None:
        self.choices = choices
        self.envelope = envelope
        self.buffers = buffers
        self.usage = exchange.usage_of(choices) if usage is None else usage
        self._request = exchange.request

    @abstractmethod
    def opening(self) -> bytes:
        """Frames before the first token."""

    @abstractmethod
    def delta(self, buffer: ChoiceBuffer) -> bytes:
        """A choice of a streamed chunk."""

    @abstractmethod
    def choice(self, buffer: ChoiceBuffer) -> bytes:
        """A choice of a whole answer."""

    @abstractmethod
    def document(self) -> bytes:
        """The whole answer."""

    def add(self, index: int, piece: Piece) -> ChoiceBuffer:
        buffer = self.buffers[index]
        buffer.add(piece)
        self.usage.add(len(piece.steps))
        return buffer

    def frame(self, buffer: ChoiceBuffer) -> bytes:
        """One chunk; its `usage` as the client asked: running, null, or absent."""
        return self.envelope.frame(self.delta(buffer), self._usage_so_far())

    def closing(self) -> bytes:
        if not self._request.usage_chunk:
            return DONE
        return self.envelope.frame(b"", b',"usage":' + self.usage.json()) + DONE

    def _usage_so_far(self) -> bytes:
        if self._request.usage_in_chunks:
            return b',"usage":' + self.usage.json()
        return b',"usage":null' if self._request.usage_chunk else b""


Prepare = Callable[[Exchange, Version], Awaitable[Reply]]


async def respond(request: Request, body: Generation, prepare: Prepare) -> Response:
    """The answer to a generation request, streamed or whole."""
    exchange = Exchange.of(request, body)
    if body.stream:
        return await stream_response(request, _frames(exchange, prepare))
    return await whole_response(request, _document(exchange, prepare))


async def _frames(exchange: Exchange, prepare: Prepare) -> AsyncGenerator[bytes, None]:
    async with exchange.pinned() as version:
        reply = await prepare(exchange, version)
        if not _generates(reply):
            yield reply.opening() + b"".join(map(reply.frame, reply.buffers)) + reply.closing()
            return
        ahead = reply.opening()
        async with exchange.serving.answer(version, reply.choices, exchange.record) as outbox:
            async for batch in outbox:
                if chunks := await _chunks(reply, batch):
                    yield ahead + chunks
                    ahead = b""
        yield reply.closing()


async def _document(exchange: Exchange, prepare: Prepare) -> bytes:
    async with exchange.pinned() as version:
        reply = await prepare(exchange, version)
        if _generates(reply):
            async with exchange.serving.answer(version, reply.choices, exchange.record) as outbox:
                async for batch in outbox:
                    for index, piece in batch:
                        await _added(reply, index, piece)
        return reply.document()


async def _chunks(reply: Reply, batch: Sequence[tuple[int, Piece]]) -> bytes:
    """What has come since the last write: one chunk for each choice, of several tokens where somebody lags."""
    changed = {index: await _added(reply, index, piece) for index, piece in batch}
    return b"".join(map(reply.frame, changed.values()))


async def _added(reply: Reply, index: int, piece: Piece) -> ChoiceBuffer:
    """The choice with `piece` added. The scores of a long prompt are spelled in turns: the loop has other streams."""
    while len(piece.prompt) > _SPELLED_AT_ONCE:
        reply.add(index, Piece("", (), prompt=piece.prompt[:_SPELLED_AT_ONCE]))
        piece = replace(piece, prompt=piece.prompt[_SPELLED_AT_ONCE:])
        await asyncio.sleep(0)
    return reply.add(index, piece)


def _generates(reply: Reply) -> bool:
    """False where only the prompt's text is wanted back (`echo` with no tokens and no logprobs)."""
    return reply.choices[0].params.max_tokens > 0 or reply.choices[0].scored
