"""A conversation as the ids of a prompt."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from deltaserve.errors import BadRequest
from deltaserve.server.answers.thinking import FORMATS
from deltaserve.server.api.chat.messages import plain, said, with_objects
from deltaserve.server.api.requests.parameters import refuse_long
from deltaserve.server.api.requests.schema import ChatRequest, TokenizeRequest
from deltaserve.server.serving.ports import Tokenizer

ROLES: Final = ("system", "developer", "user", "assistant", "tool", "function")
MARKS: Final = tuple(mark for one in FORMATS for mark in one.markers)  # of reasoning


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
    *,
    special_tokens: bool = False,
) -> ChatPrompt:
    """Long ones are work for a thread. `arguments`: for the template. `special_tokens`: those in messages are tokens.

    Raises BadRequest, ContextLengthExceeded.
    """
    messages = [plain(message, at) for at, message in enumerate(body.messages or ())]
    if not special_tokens:
        _refuse_foreign_roles(messages, tokenizer)
    veil = None if special_tokens else tokenizer.veil([messages, body.tools, arguments])
    covered = _as_it_is if veil is None else veil.over
    render = partial(
        tokenizer.render_chat,
        add_generation_prompt=opens_turn,
        continue_final_message=body.continue_final_message,
        tools=covered(body.tools),
        chat_template_kwargs=arguments and {name: covered(value) for name, value in arguments.items()},
    )
    text = _rendered(messages if veil is None else [_covered(message, covered) for message in messages], render)
    add_special = bool(body.add_special_tokens)
    refuse_long(tokenizer, text, max_context)
    ids = tokenizer.encode(text, add_special) if veil is None else tokenizer.encode_chat(text, veil, add_special)
    text = text if veil is None else veil.off(text)
    return ChatPrompt(text, ids, said(messages[-1]) if body.continue_final_message else None)


def chat_ids(
    body: ChatRequest | TokenizeRequest,
    tokenizer: Tokenizer,
    opens_turn: bool,
    max_context: int,
    *,
    special_tokens: bool = False,
) -> list[int]:
    """The same of a conversation that asks for nothing but its ids."""
    arguments = body.chat_template_kwargs
    return chat_prompt(body, tokenizer, opens_turn, max_context, arguments, special_tokens=special_tokens).ids


def _as_it_is(value: Any) -> Any:
    return value


def _covered(message: Mapping[str, Any], covered: Callable[[Any], Any]) -> dict[str, Any]:
    """A message under the veil, but for what a template looks for in an assistant's words: the marks of reasoning."""
    kept = MARKS if message["role"] == "assistant" else ()
    return {name: _between(value, kept, covered) for name, value in message.items()}


def _between(value: Any, kept: Sequence[str], covered: Callable[[Any], Any]) -> Any:
    """Covered, but for the texts `kept`."""
    if not kept or not isinstance(value, str):
        return covered(value)
    text, *others = kept
    return text.join(_between(part, others, covered) for part in value.split(text))


def _refuse_foreign_roles(messages: Sequence[Mapping[str, Any]], tokenizer: Tokenizer) -> None:
    """Roles are those of the API and those that the template names: many templates write whatever they are given."""
    template = f"{tokenizer.chat_template or ''}{tokenizer.tool_template or ''}"
    for at, message in enumerate(messages):
        role = message["role"]
        if role not in ROLES and not any(f"{quote}{role}{quote}" in template for quote in ("'", '"')):
            raise BadRequest(
                f"`messages[{at}].role` is none of {', '.join(ROLES)}, and the chat template names no other such role.",
                param="messages",
            )


def _rendered(messages: Sequence[Mapping[str, Any]], render: Callable[[Sequence[Mapping[str, Any]]], str]) -> str:
    """Most templates write a call's arguments as JSON and want an object; a few join them to a text."""
    objects = with_objects(messages)
    if objects == messages:
        return render(messages)
    try:
        return render(objects)
    except BadRequest:
        return render(messages)
