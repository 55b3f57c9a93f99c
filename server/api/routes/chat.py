"""POST /v1/chat/completions"""

from functools import partial

from fastapi import APIRouter, Request
from starlette.responses import Response

from deltaserve.server.api.chat.prepared import prepare_chat
from deltaserve.server.api.chat.writing import chat_reply
from deltaserve.server.api.replies.described import ChatCompletion, answers, refusals
from deltaserve.server.api.replies.exchange import Exchange
from deltaserve.server.api.replies.replies import Reply, respond
from deltaserve.server.api.requests.json_route import JsonRoute
from deltaserve.server.api.requests.schema import ChatRequest
from deltaserve.server.serving.ports import Version

router = APIRouter(route_class=JsonRoute, responses=refusals())


@router.post("/v1/chat/completions", responses=answers(ChatCompletion, streamed=True))
async def chat_completions(body: ChatRequest, request: Request) -> Response:
    """Answer a conversation with corrected tokens."""
    return await respond(request, body, partial(_prepare, body))


async def _prepare(body: ChatRequest, exchange: Exchange, version: Version) -> Reply:
    return chat_reply(body, await prepare_chat(body, exchange, version), exchange, version)
