"""A conversation as the ids of a prompt."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deltaserve.errors import BadRequest, UnsupportedParameter
from deltaserve.server.api.requests.body import JsonObject
from deltaserve.server.api.requests.parameters import encode
from deltaserve.server.api.requests.schema import ChatRequest, Message, TokenizeRequest
from deltaserve.server.serving.ports import Tokenizer


def opens_turn(body: ChatRequest) -> bool:
    """Whether the prompt ends with the beginning of an assistant's turn; by default, unless one is to be continued."""
    return not body.continue_final_message if body.add_generation_prompt is None else body.add_generation_prompt


@dataclass(frozen=True, slots=True)
class ChatPrompt:
    """A conversation as the model's template writes it, encoded once."""

    text: str
    ids: list[int]
    continued: str | None = None  # what the assistant said of a message that is to go on


def chat_prompt(
    body: ChatRequest | TokenizeRequest,
    tokenizer: Tokenizer,
    opens_turn: bool,
    max_context: int,
    arguments: Mapping[str, Any] | None,
) -> ChatPrompt:
    """Long ones are work for a thread. `arguments`: for the template. Raises BadRequest, ContextLengthExceeded."""
    messages = [_plain(message, at) for at, message in enumerate(body.messages or ())]
    text = tokenizer.render_chat(
        messages,
        add_generation_prompt=opens_turn,
        continue_final_message=body.continue_final_message,
        tools=body.tools,
        chat_template_kwargs=arguments,
    )
    ids = encode(tokenizer, text, bool(body.add_special_tokens), max_context)
    return ChatPrompt(text, ids, _said(messages[-1]) if body.continue_final_message else None)


def chat_ids(
    body: ChatRequest | TokenizeRequest, tokenizer: Tokenizer, opens_turn: bool, max_context: int
) -> list[int]:
    """The same of a conversation that asks for nothing but its ids."""
    return chat_prompt(body, tokenizer, opens_turn, max_context, body.chat_template_kwargs).ids


def _said(message: Mapping[str, Any]) -> str:
    content = message["content"]
    return content if isinstance(content, str) else "".join(part["text"] for part in content or ())


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
