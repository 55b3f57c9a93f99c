"""POST /v1/chat/completions"""

from functools import partial
from typing import Any

import orjson
from fastapi import APIRouter, Request
from starlette.responses import Response

from deltaserve.errors import BadRequest, UnsupportedParameter
from deltaserve.server.api.replies.explain import ExplainRows
from deltaserve.server.api.replies.replies import Exchange, Reply, respond
from deltaserve.server.api.replies.tokens import ChatLogprobs, NoLogprobs
from deltaserve.server.api.replies.writers import ChoiceBuffer, Envelope
from deltaserve.server.api.requests.json_route import JsonRoute
from deltaserve.server.api.requests.parameters import chat_shape, encode, plan
from deltaserve.server.api.requests.schema import ChatRequest, JsonObject, Message, TokenizeRequest
from deltaserve.server.serving.ports import Tokenizer, Version

router = APIRouter(route_class=JsonRoute)


@router.post("/v1/chat/completions")
async def chat_completions(body: ChatRequest, request: Request) -> Response:
    """Answer a conversation with corrected tokens."""
    return await respond(request, body, partial(_prepare, body))


async def _prepare(body: ChatRequest, exchange: Exchange, version: Version) -> Reply:
    serving, tokenizer = exchange.serving, version.tokenizer
    shape = chat_shape(body)
    opens_turn = not body.continue_final_message if body.add_generation_prompt is None else body.add_generation_prompt
    longest = serving.max_context(version)
    ids = await exchange.in_thread(lambda: chat_ids(body, tokenizer, opens_turn, longest))
    choices = plan(body, shape, [ids], version, serving)
    spelling = exchange.spellings.of(version, body.return_tokens_as_token_ids)
    buffers = [
        ChoiceBuffer(
            choice.index,
            ChatLogprobs(spelling) if body.logprobs else NoLogprobs(),
            body.return_token_ids,
            ExplainRows(tokenizer) if body.explain else None,
        )
        for choice in choices
    ]
    kind = "chat.completion.chunk" if body.stream else "chat.completion"
    envelope = Envelope("chatcmpl", kind, body.model or serving.backends.served_name, serving.fingerprint(version))
    return ChatReply(exchange, envelope, choices, buffers)


def chat_ids(
    body: ChatRequest | TokenizeRequest, tokenizer: Tokenizer, opens_turn: bool, max_context: int
) -> list[int]:
    """The conversation through the model's template, encoded once. Long ones are work for a thread."""
    text = tokenizer.render_chat(
        [_plain(message, at) for at, message in enumerate(body.messages or ())],
        add_generation_prompt=opens_turn,
        continue_final_message=body.continue_final_message,
        tools=body.tools,
        chat_template_kwargs=body.chat_template_kwargs,
    )
    return encode(tokenizer, text, bool(body.add_special_tokens), max_context)


def _plain(message: Message, at: int) -> dict[str, Any]:
    """A message as it was sent: content is a string, a list of text parts, or null beside an assistant's tool calls."""
    plain = message.model_dump(exclude_unset=True)
    if isinstance(message.content, list):
        for number, part in enumerate(message.content):
            _check_part(part, f"messages[{at}].content[{number}]")
    plain["content"] = message.content
    if plain["content"] is None and not plain.get("tool_calls"):
        if message.role != "assistant":
            raise BadRequest(
                f"`messages[{at}].content` is required: only an assistant's message may go without.", param="messages"
            )
        plain["content"] = ""  # what clients keep of a turn in which nothing was said
    return plain


def _check_part(part: JsonObject, path: str) -> None:
    if part.get("type") != "text":
        raise UnsupportedParameter(
            f"`{path}`: only text parts are supported; no images, audio or files.", param="messages"
        )
    if not isinstance(part.get("text"), str):
        raise BadRequest(f"`{path}.text` must be a string.", param="messages")


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
