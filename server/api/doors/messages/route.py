"""POST /v1/messages, and POST /v1/messages/count_tokens"""

from typing import Any

import orjson
from fastapi import APIRouter, Request
from starlette.responses import Response

from deltaserve.errors import DeltaserveError
from deltaserve.server.api.chat.answering import OpenChat, Update
from deltaserve.server.api.doors.answering import Door, Explained, answer, chat_request, count
from deltaserve.server.api.doors.messages.request import NAMES, chat_fields, prompt_fields
from deltaserve.server.api.doors.messages.schema import CountRequest, MessagesRequest
from deltaserve.server.api.doors.messages.writer import MessageWriter, failed, stop_of
from deltaserve.server.api.replies.described import AnthropicError, InputTokens, MessageObject, answers, refusals
from deltaserve.server.api.replies.usage import Usage
from deltaserve.server.api.requests.json_route import JsonRoute
from deltaserve.server.api.requests.schema import ChatRequest

router = APIRouter(route_class=JsonRoute, responses=refusals(AnthropicError))


@router.post("/v1/messages", responses=answers(MessageObject, streamed=True))
async def messages(body: MessagesRequest, request: Request) -> Response:
    """Answer a conversation with corrected tokens, in the form of Anthropic's Messages API."""
    chat = await chat_request(request, lambda: chat_fields(body), NAMES)
    return await answer(request, chat, MessagesDoor(chat))


@router.post("/v1/messages/count_tokens", responses=answers(InputTokens))
async def count_tokens(body: CountRequest, request: Request) -> dict[str, Any]:
    """The number of tokens that the model would read."""
    chat = await chat_request(request, lambda: prompt_fields(body), NAMES)
    return {"input_tokens": await count(request, chat, NAMES)}


class MessagesDoor(Door):
    """One message."""

    names = NAMES

    def __init__(self, chat: ChatRequest) -> None:
        self._request = chat
        self._stop = stop_of(None, None)
        self._request_id: str | None = None

    def open(self, chat: OpenChat) -> None:
        self._request_id = chat.exchange.record.id
        self._usage, self._explained = chat.usage, Explained(chat, self._request.explain)
        self._writer = MessageWriter(chat.model, chat.fingerprint, chat.usage.prompt_tokens)

    def opening(self) -> bytes:
        return self._writer.opening()

    def add(self, update: Update) -> bytes:
        self._explained.add(update)
        events = self._writer.add(update.parts)
        if update.finish_reason is None:
            return events
        self._stop = stop_of(update.finish_reason, update.stop_reason)
        return events + self._writer.end(cut=update.finish_reason == "length")

    def closing(self) -> bytes:
        return self._writer.closing(self._stop, usage_json(self._usage), **self._explained.fields())

    def document(self) -> bytes:
        return self._writer.document(self._stop, usage_json(self._usage), **self._explained.fields())

    def failed(self, error: DeltaserveError) -> bytes:
        return failed(error, self._request_id)


def usage_json(usage: Usage) -> dict[str, Any]:
    """Counts under the names of this API. Nothing is told of caches."""
    told = orjson.loads(usage.json())
    counts: dict[str, Any] = {
        "input_tokens": told["prompt_tokens"],
        "output_tokens": told["completion_tokens"],
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
    }
    if usage.reasoning_tokens is not None:
        counts["output_tokens_details"] = {"thinking_tokens": usage.reasoning_tokens}
    return {**counts, **usage.costs_of(told)}
