"""A chat opened for the clients of another API: its answer streamed or whole, its prompt counted, its errors named."""

import re
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from typing import Any

import orjson
from fastapi import Request
from pydantic import ValidationError
from starlette.responses import Response

from deltaserve.errors import DeltaserveError
from deltaserve.server.api.chat.answering import OpenChat, Update, open_chat
from deltaserve.server.api.chat.prepared import chat_prompt_of, template_arguments
from deltaserve.server.api.chat.reading import Reading
from deltaserve.server.api.errors import schema_error
from deltaserve.server.api.replies.exchange import Exchange
from deltaserve.server.api.replies.explain import ExplainRows
from deltaserve.server.api.replies.sse import stream_response, whole_response
from deltaserve.server.api.requests.schema import ChatRequest
from deltaserve.server.api.routes.models import countable
from deltaserve.server.serving.service import Serving

Json = dict[str, Any]
Names = Mapping[str, str]


class Door(ABC):
    """How one answer leaves: as a stream's bytes, or as one document."""

    names: Names  # of the chat request's fields, as clients of this API know them; the longer of two first

    @abstractmethod
    def open(self, chat: OpenChat) -> None:
        """Before everything else: what is known of the answer now."""

    @abstractmethod
    def opening(self) -> bytes:
        """Events before the first token; sent with its own."""

    @abstractmethod
    def add(self, update: Update) -> bytes:
        """Events of what the answer has said since; none while text is held back."""

    @abstractmethod
    def closing(self) -> bytes:
        """Events after the last token."""

    @abstractmethod
    def document(self) -> bytes:
        """The whole answer."""

    @abstractmethod
    def failed(self, error: DeltaserveError) -> bytes:
        """The last events of a stream that fails."""


async def chat_request(request: Request, fields: Callable[[], Json], names: Names) -> ChatRequest:
    """The chat request of these fields, made in a thread where it is long.

    Raises BadRequest naming the field as the client knows it.
    """
    serving: Serving = request.app.state.serving
    return await serving.threads.run(request.state.record.body_bytes, lambda: _validated(fields(), names))


def _validated(fields: Json, names: Names) -> ChatRequest:
    with client_names(names):
        try:
            return ChatRequest.model_validate(fields)
        except ValidationError as error:
            raise schema_error(error.errors(), ChatRequest.model_fields) from None


@contextmanager
def client_names(names: Names) -> Iterator[None]:
    """Errors inside tell the field that the client sent, not the one it became."""
    try:
        yield
    except DeltaserveError as error:
        error.param = names.get(error.param or "", error.param or "").partition(".")[0] or None
        error.message = _spelled(error.message, names)
        raise


def _spelled(message: str, names: Names) -> str:
    """The sentence with each path as the client knows it. Which of its turns a message was is not known any more."""
    for ours, theirs in names.items():
        message = re.sub(rf"`{re.escape(ours)}(\[[^`]*)?(?=[`.])", f"`{theirs}", message)
    return message


async def answer(request: Request, chat: ChatRequest, door: Door) -> Response:
    """The answer to a request, streamed or whole."""
    with client_names(door.names):
        exchange = Exchange.of(request, chat)
    if chat.stream:
        request.state.error_event = door.failed
        return await stream_response(request, _frames(exchange, chat, door))
    return await whole_response(request, _document(exchange, chat, door))


async def _frames(exchange: Exchange, body: ChatRequest, door: Door) -> AsyncGenerator[bytes, None]:
    with client_names(door.names):
        async with open_chat(exchange, body) as chat:
            door.open(chat)
            ahead = door.opening()
            async with aclosing(chat.updates()) as updates:
                async for batch in updates:
                    if frames := ahead + b"".join(map(door.add, batch)):
                        yield frames
                    ahead = b""
            yield door.closing()


async def _document(exchange: Exchange, body: ChatRequest, door: Door) -> bytes:
    with client_names(door.names):
        async with open_chat(exchange, body) as chat:
            door.open(chat)
            async with aclosing(chat.updates()) as updates:
                async for batch in updates:
                    for update in batch:
                        door.add(update)
            return door.document()


async def count(request: Request, body: ChatRequest, names: Names) -> int:
    """Tokens of the prompt; it may be longer than the context."""
    exchange = Exchange.of(request, body)
    with client_names(names):
        async with exchange.pinned() as version:
            tokenizer = version.tokenizer
            bound = countable(tokenizer, exchange.serving.max_context(version))
            reading = Reading.of(body, tokenizer, exchange.serving.settings)
            arguments = template_arguments(body, reading, tokenizer)
            return len((await chat_prompt_of(body, exchange, tokenizer, bound, arguments)).ids)


class Explained:
    """The `explain` rows of a whole answer, which its last event carries; no field where nobody asked."""

    def __init__(self, chat: OpenChat, wanted: bool) -> None:
        self._rows = ExplainRows(chat.version.tokenizer) if wanted else None

    def add(self, update: Update) -> None:
        if self._rows is not None:
            self._rows.add(update.steps)

    def fields(self) -> Json:
        return {} if self._rows is None else {"explain": orjson.Fragment(self._rows.flush())}
