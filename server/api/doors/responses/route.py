"""POST /v1/responses, and POST /v1/responses/input_tokens"""

from typing import Any

import orjson
from fastapi import APIRouter, Request
from starlette.responses import Response

from deltaserve.errors import DeltaserveError
from deltaserve.server.api.chat.answering import OpenChat, Update
from deltaserve.server.api.doors.answering import Door, Explained, answer, chat_request, count
from deltaserve.server.api.doors.responses.request import NAMES, chat_fields
from deltaserve.server.api.doors.responses.schema import ResponsesRequest
from deltaserve.server.api.doors.responses.writer import ResponseWriter
from deltaserve.server.api.replies.described import InputTokens, ResponseObject, answers, refusals
from deltaserve.server.api.replies.tokens import ChatLogprobs
from deltaserve.server.api.replies.usage import Usage
from deltaserve.server.api.requests.json_route import JsonRoute
from deltaserve.server.api.requests.schema import ChatRequest

router = APIRouter(route_class=JsonRoute, responses=refusals())


@router.post("/v1/responses", responses=answers(ResponseObject, streamed=True))
async def responses(body: ResponsesRequest, request: Request) -> Response:
    """Answer a conversation with corrected tokens, in the form of OpenAI's Responses API. Nothing is kept."""
    chat = await chat_request(request, lambda: chat_fields(body), NAMES)
    return await answer(request, chat, ResponsesDoor(body, chat))


@router.post("/v1/responses/input_tokens", responses=answers(InputTokens))
async def input_tokens(body: ResponsesRequest, request: Request) -> dict[str, Any]:
    """The number of tokens that the model would read."""
    chat = await chat_request(request, lambda: chat_fields(body), NAMES)
    return {"object": "response.input_tokens", "input_tokens": await count(request, chat, NAMES)}


class ResponsesDoor(Door):
    """One response."""

    names = NAMES

    def __init__(self, body: ResponsesRequest, chat: ChatRequest) -> None:
        self._writer = ResponseWriter(body)
        self._request = chat
        self._logprobs: ChatLogprobs | None = None
        self._cut = False

    def open(self, chat: OpenChat) -> None:
        self._usage, self._explained = chat.usage, Explained(chat, self._request.explain)
        params = chat.prepared.choices[0].params
        self._writer.know(
            model=chat.model,
            system_fingerprint=chat.fingerprint,
            temperature=params.temperature,
            top_p=params.top_p,
        )
        if self._request.logprobs:
            spelling = chat.exchange.spellings.of(chat.version, self._request.return_tokens_as_token_ids)
            self._logprobs = ChatLogprobs(spelling)

    def opening(self) -> bytes:
        return self._writer.opening()

    def add(self, update: Update) -> bytes:
        self._explained.add(update)
        events = self._writer.add(update.parts, self._spelled(update))
        if update.finish_reason is None:
            return events
        self._cut = update.finish_reason == "length"
        return events + self._writer.end(cut=self._cut)

    def closing(self) -> bytes:
        return self._writer.closing(cut=self._cut, usage=usage_json(self._usage), **self._explained.fields())

    def document(self) -> bytes:
        return self._writer.document(cut=self._cut, usage=usage_json(self._usage), **self._explained.fields())

    def failed(self, error: DeltaserveError) -> bytes:
        return self._writer.failed(error)

    def _spelled(self, update: Update) -> list[bytes]:
        if self._logprobs is None:
            return []
        self._logprobs.add(update.steps)
        return self._logprobs.take()


def usage_json(usage: Usage) -> dict[str, Any]:
    """Counts under the names of this API. Nothing is told of caches."""
    told = orjson.loads(usage.json())
    return {
        "input_tokens": told["prompt_tokens"],
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": told["completion_tokens"],
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens or 0},
        "total_tokens": told["total_tokens"],
        **usage.costs_of(told),
    }
