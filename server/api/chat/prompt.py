"""A conversation as the ids of a prompt."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from deltaserve.errors import BadRequest
from deltaserve.server.api.chat.messages import plain, said, with_objects
from deltaserve.server.api.requests.parameters import encode
from deltaserve.server.api.requests.schema import ChatRequest, TokenizeRequest
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
    messages = [plain(message, at) for at, message in enumerate(body.messages or ())]
    render = partial(
        tokenizer.render_chat,
        add_generation_prompt=opens_turn,
        continue_final_message=body.continue_final_message,
        tools=body.tools,
        chat_template_kwargs=arguments,
    )
    text = _rendered(messages, render)
    ids = encode(tokenizer, text, bool(body.add_special_tokens), max_context)
    return ChatPrompt(text, ids, said(messages[-1]) if body.continue_final_message else None)


def chat_ids(
    body: ChatRequest | TokenizeRequest, tokenizer: Tokenizer, opens_turn: bool, max_context: int
) -> list[int]:
    """The same of a conversation that asks for nothing but its ids."""
    return chat_prompt(body, tokenizer, opens_turn, max_context, body.chat_template_kwargs).ids


def _rendered(messages: Sequence[Mapping[str, Any]], render: Callable[[Sequence[Mapping[str, Any]]], str]) -> str:
    """Most templates write a call's arguments as JSON and want an object; a few join them to a text."""
    objects = with_objects(messages)
    if objects == messages:
        return render(messages)
    try:
        return render(objects)
    except BadRequest:
        return render(messages)
