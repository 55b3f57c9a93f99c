"""POST /v1/chat/completions"""

from functools import partial

import orjson
from fastapi import APIRouter, Request
from starlette.responses import Response

from deltaserve.server.api.chat.prepared import prepare_chat
from deltaserve.server.api.replies.exchange import Exchange
from deltaserve.server.api.replies.explain import ExplainRows
from deltaserve.server.api.replies.replies import Reply, respond
from deltaserve.server.api.replies.tokens import ChatLogprobs, NoLogprobs
from deltaserve.server.api.replies.writers import ChoiceBuffer, Envelope
from deltaserve.server.api.requests.json_route import JsonRoute
from deltaserve.server.api.requests.schema import ChatRequest
from deltaserve.server.serving.ports import Version

router = APIRouter(route_class=JsonRoute)


@router.post("/v1/chat/completions")
async def chat_completions(body: ChatRequest, request: Request) -> Response:
    """Answer a conversation with corrected tokens."""
    return await respond(request, body, partial(_prepare, body))


async def _prepare(body: ChatRequest, exchange: Exchange, version: Version) -> Reply:
    serving, chat = exchange.serving, await prepare_chat(body, exchange, version)
    spelling = exchange.spellings.of(version, body.return_tokens_as_token_ids)
    buffers = [
        ChoiceBuffer(
            choice.index,
            ChatLogprobs(spelling) if body.logprobs else NoLogprobs(),
            body.return_token_ids,
            ExplainRows(version.tokenizer) if body.explain else None,
        )
        for choice in chat.choices
    ]
    kind = "chat.completion.chunk" if body.stream else "chat.completion"
    envelope = Envelope("chatcmpl", kind, body.model or serving.backends.served_name, serving.fingerprint(version))
    return ChatReply(exchange, envelope, chat.choices, buffers, chat.usage)


class ChatReply(Reply):
    """Chat: a streamed choice has a `delta`, a whole one a `message`."""

    def opening(self) -> bytes:
        """The role of every choice; ahead of the first token, never alone."""
        roles = [
            b'{"index":%d,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}'
            % buffer.index
            for buffer in self.buffers
        ]
        usage = b',"usage":null' if self._request.usage_chunk else b""
        return b"".join(
            self.envelope.frame(role, usage + (b"" if at else self._prompt_ids())) for at, role in enumerate(roles)
        )

    def delta(self, buffer: ChoiceBuffer) -> bytes:
        return b'{"index":%d,"delta":{"content":%b},%b}' % (buffer.index, buffer.take_text(), buffer.take_rest())

    def choice(self, buffer: ChoiceBuffer) -> bytes:
        return b'{"index":%d,"message":{"role":"assistant","content":%b,"refusal":null},%b}' % (
            buffer.index,
            buffer.take_text(),
            buffer.take_rest(),
        )

    def document(self) -> bytes:
        return self.envelope.document([self.choice(buffer) for buffer in self.buffers], self.usage, self._prompt_ids())

    def _prompt_ids(self) -> bytes:
        if not self._request.return_token_ids:
            return b""
        return b',"prompt_token_ids":' + orjson.dumps(list(self.choices[0].prompt_ids))
