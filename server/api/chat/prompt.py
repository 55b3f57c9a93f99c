"""A conversation as the ids of a prompt."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from deltaserve.errors import BadRequest
from deltaserve.server.answers.thinking import FORMATS
from deltaserve.server.api.chat.messages import plain, said, with_objects
from deltaserve.server.api.requests.parameters import refuse_long
from deltaserve.server.api.requests.schema import ChatRequest, TokenizeRequest
from deltaserve.server.serving.ports import Tokenizer, Veil

ROLES: Final = ("system", "developer", "user", "assistant", "tool", "function")
_MARK: Final = re.compile(f"({'|'.join(re.escape(mark) for one in FORMATS for mark in one.markers)})")  # of reasoning


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
        messages = [_unbroken(message, tokenizer) for message in messages]
    objects = with_objects(messages)  # now: what they hold may be escaped in their JSON
    veil = None if special_tokens else tokenizer.veil([messages, objects, body.tools, arguments])
    covered = _as_it_is if veil is None else veil.over
    render = partial(
        tokenizer.render_chat,
        add_generation_prompt=opens_turn,
        continue_final_message=body.continue_final_message,
        tools=covered(body.tools),
        chat_template_kwargs=arguments and {name: covered(value) for name, value in arguments.items()},
    )
    continued = said(messages[-1]) if body.continue_final_message else None
    if veil is not None:
        messages, objects = ([_covered(message, veil) for message in each] for each in (messages, objects))
    text = _rendered(messages, objects, render)
    add_special = bool(body.add_special_tokens)
    refuse_long(tokenizer, text, max_context)
    ids = tokenizer.encode(text, add_special) if veil is None else tokenizer.encode_chat(text, veil, add_special)
    text = text if veil is None else veil.off(text)
    return ChatPrompt(text, ids, continued)


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


def _unbroken(message: dict[str, Any], tokenizer: Tokenizer) -> dict[str, Any]:
    """With its parts as one where a special token begins in one of them and ends in another: a template joins them."""
    content = message["content"]
    if not isinstance(content, list) or len(content) < 2 or (veil := tokenizer.veil(text := said(message))) is None:
        return message
    broken = veil.over(text) != "".join(veil.over(part["text"]) for part in content)
    return {**message, "content": [{**content[0], "text": text}]} if broken else message


def _covered(message: Mapping[str, Any], veil: Veil) -> dict[str, Any]:
    """A message under the veil, but for what a template looks for in an assistant's words: the marks of reasoning."""
    if message["role"] != "assistant":
        return {name: veil.over(value) for name, value in message.items()}
    seen = {name: _but_for_marks(value, veil) for name, value in message.items()}
    if isinstance(parts := message["content"], list):
        seen["content"] = [{name: _but_for_marks(value, veil) for name, value in part.items()} for part in parts]
    return seen


def _but_for_marks(value: Any, veil: Veil) -> Any:
    """Covered, but for the marks of reasoning: all of it where what a template leaves may complete a special token."""
    if not isinstance(value, str):
        return veil.over(value)
    *others, last = _MARK.split(value)  # words and marks by turns
    if any(map(veil.ends_within, others[::2])):
        return veil.over(value)
    return "".join(text if at % 2 else veil.over(text) for at, text in enumerate([*others, last]))


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


def _rendered(
    messages: Sequence[Mapping[str, Any]],
    objects: Sequence[Mapping[str, Any]],
    render: Callable[[Sequence[Mapping[str, Any]]], str],
) -> str:
    """Most templates write a call's arguments as JSON and want an object (`objects`); a few join them to a text."""
    if objects == messages:
        return render(messages)
    try:
        return render(objects)
    except BadRequest:
        return render(messages)
