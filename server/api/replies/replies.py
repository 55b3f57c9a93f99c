"""What completions and chat do alike: run the choices, count tokens, write frames or one document."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import Response

from deltaserve.server.api.replies.explain import check_explain_allowed
from deltaserve.server.api.replies.sse import DONE, stream_response, whole_response
from deltaserve.server.api.replies.tokens import Spelling
from deltaserve.server.api.replies.writers import ChoiceBuffer, Envelope, Usage
from deltaserve.server.api.requests.schema import Generation
from deltaserve.server.decoding.stream import Piece
from deltaserve.server.serving.ports import Version
from deltaserve.server.serving.service import Choice, Serving
from deltaserve.server.telemetry import RequestRecord

T = TypeVar("T")
_SPELLED_AT_ONCE = 256  # tokens of a scored prompt, each with up to max_logprobs alternatives


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request being answered: what every step of it needs."""

    request: Generation
    serving: Serving
    spellings: "Spellings"
    record: RequestRecord

    async def in_thread(self, work: Callable[[], T]) -> T:
        """The result of `work`, done in a thread where the request is long."""
        return await self.serving.threads.run(self.record.body_bytes, work)


class Reply(ABC):
    """The wire form of one request's choices."""

    def __init__(
        self, exchange: Exchange, envelope: Envelope, choices: Sequence[Choice], buffers: Sequence[ChoiceBuffer]
    ) -> None:
        self.choices = choices
        self.envelope = envelope
        self.buffers = buffers
        self._request = exchange.request
        self._record = exchange.record
        # The n choices of a prompt share it: it is read, and counted, once.
        prompt_tokens = sum(len(choice.prompt_ids) for choice in choices if choice.sample == 0)
        self.usage = Usage(prompt_tokens, self._record.bill)
        self._record.prompt_tokens = self.usage.prompt_tokens

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
        self.usage.completion_tokens += len(piece.steps)
        self._record.completion_tokens = self.usage.completion_tokens
        return buffer

    def frame(self, buffer: ChoiceBuffer) -> bytes:
        """One chunk; its `usage` as the client asked: running, null, or absent."""
        usage = b""
        if self._request.usage_in_chunks:
            usage = b',"usage":' + self.usage.json()
        elif self._request.usage_chunk:
            usage = b',"usage":null'
        return self.envelope.frame(self.delta(buffer), usage)

    def closing(self) -> bytes:
        if not self._request.usage_chunk:
            return DONE
        return self.envelope.frame(b"", b',"usage":' + self.usage.json()) + DONE


class Spellings:
    """One `Spelling` per tokenizer and form, shared by all requests of an app."""

    def __init__(self) -> None:
        self._by_tokenizer: dict[tuple[int, bool], tuple[object, Spelling]] = {}

    def of(self, version: Version, as_ids: bool) -> Spelling:
        tokenizer = version.tokenizer
        key = (id(tokenizer), as_ids)
        if key not in self._by_tokenizer:  # the tokenizer is kept with it, so that its id stays its own
            self._by_tokenizer[key] = (tokenizer, Spelling(tokenizer, as_ids))
        return self._by_tokenizer[key][1]


Prepare = Callable[[Exchange, Version], Awaitable[Reply]]


async def respond(request: Request, body: Generation, prepare: Prepare) -> Response:
    """The answer to a generation request, streamed or whole."""
    check_explain_allowed(request, body)
    state = request.app.state
    exchange = Exchange(body, state.serving, state.spellings, request.state.record)
    if body.stream:
        return await stream_response(request, _frames(exchange, prepare))
    return await whole_response(request, _document(exchange, prepare))


async def _frames(exchange: Exchange, prepare: Prepare) -> AsyncGenerator[bytes, None]:
    async with exchange.serving.pinned(exchange.request.model) as version:
        reply = await _prepared(exchange, version, prepare)
        if not _generates(reply):
            yield reply.opening() + b"".join(map(reply.frame, reply.buffers)) + reply.closing()
            return
        ahead = reply.opening()
        async with exchange.serving.answer(version, reply.choices, exchange.record) as outbox:
            async for batch in outbox:
                yield ahead + await _chunks(reply, batch)
                ahead = b""
        yield reply.closing()


async def _document(exchange: Exchange, prepare: Prepare) -> bytes:
    async with exchange.serving.pinned(exchange.request.model) as version:
        reply = await _prepared(exchange, version, prepare)
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


async def _prepared(exchange: Exchange, version: Version, prepare: Prepare) -> Reply:
    exchange.record.model = version.name
    exchange.record.fingerprint = exchange.serving.fingerprint(version)
    reply = await prepare(exchange, version)
    exchange.serving.metrics.prompt_tokens.inc(reply.usage.prompt_tokens)
    return reply


def _generates(reply: Reply) -> bool:
    """False where only the prompt's text is wanted back (`echo` with no tokens and no logprobs)."""
    return reply.choices[0].params.max_tokens > 0 or reply.choices[0].scored
