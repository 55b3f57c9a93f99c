"""`input` of /v1/responses: items, as clients send them and as earlier answers gave them, to chat messages."""

from typing import Any, Final

from deltaserve.errors import BadRequest, UnsupportedParameter
from deltaserve.server.api.doors.conversation import Conversation, Json, string_of, text_of
from deltaserve.server.api.requests.naming import quoted

_TEXTS: Final = ("input_text", "output_text", "text", "refusal")
_ROLES: Final = {"user": "user", "assistant": "assistant", "system": "system", "developer": "system"}
_REFERENCE: Final = (
    "`{path}`: no answers are kept here, so there is nothing that an item_reference could name. Send the items "
    "themselves; clients that send references do so where `store` is not false."
)


def messages_of(given: str | list[Json], instructions: str | None) -> list[Json]:
    """Chat messages. Raises BadRequest, UnsupportedParameter."""
    conversation = Conversation()
    if instructions:
        conversation.add("system", instructions)
    if isinstance(given, str):
        conversation.add("user", given)
    else:
        for at, item in enumerate(given):
            _add(conversation, item, f"input[{at}]")
    return conversation.messages


def _add(conversation: Conversation, item: Json, path: str) -> None:
    kind = item.get("type", "message" if "role" in item else None)
    if kind == "message":
        _add_message(conversation, item, path)
    elif kind == "function_call":
        call = [string_of(item, name, path, "input") for name in ("call_id", "name", "arguments")]
        conversation.call(*call)
    elif kind == "function_call_output":
        output = text_of(item.get("output"), f"{path}.output", _TEXTS, "input")
        conversation.result(string_of(item, "call_id", path, "input"), output)
    elif kind == "reasoning":
        _add_reasoning(conversation, item, path)
    elif kind == "item_reference":
        raise UnsupportedParameter(_REFERENCE.format(path=path), param="input")
    elif not isinstance(kind, str):
        raise BadRequest(
            f"`{path}` must be an item: a message with a `role`, or an object with a `type`.", param="input"
        )
    else:
        raise UnsupportedParameter(
            f"`{path}`: items of the type {quoted(kind)} are not supported; messages, function_call, "
            "function_call_output and reasoning are.",
            param="input",
        )


def _add_message(conversation: Conversation, item: Json, path: str) -> None:
    role = _ROLES.get(str(item.get("role")))
    if role is None:
        raise BadRequest(f"`{path}.role` must be user, assistant, system or developer.", param="input")
    text = text_of(item.get("content"), f"{path}.content", _TEXTS, "input")
    if role == "assistant":
        conversation.say(text)
    else:
        conversation.add(role, text)


def _add_reasoning(conversation: Conversation, item: Json, path: str) -> None:
    """The text itself where there is one, else its summary. An empty item says nothing."""
    text = _texts(item, "content", "reasoning_text", path) or _texts(item, "summary", "summary_text", path)
    if text:
        conversation.think(text)
    elif item.get("encrypted_content"):
        raise UnsupportedParameter(
            f"`{path}`: `encrypted_content` of another server cannot be read here; leave this item out.", param="input"
        )


def _texts(item: Json, name: str, kind: str, path: str) -> str:
    parts: Any = item.get(name) or []
    return text_of(parts, f"{path}.{name}", (kind,), "input")
