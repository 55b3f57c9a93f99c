"""`system` and `messages` of /v1/messages: turns of content blocks to chat messages."""

import json
from collections.abc import Sequence
from typing import Final

from deltaserve.errors import BadRequest, UnsupportedParameter
from deltaserve.server.api.doors.conversation import Conversation, Json, part_text, string_of, text_of
from deltaserve.server.api.doors.messages.schema import Turn
from deltaserve.server.api.requests.naming import quoted

_TEXT: Final = ("text",)


def messages_of(system: str | list[Json] | None, turns: Sequence[Turn]) -> list[Json]:
    """Chat messages. Raises BadRequest, UnsupportedParameter."""
    conversation = Conversation()
    if instructions := text_of(system or "", "system", _TEXT, "system"):
        conversation.add("system", instructions)
    for at, turn in enumerate(turns):
        _ADDING[turn.role](conversation, turn.content, f"messages[{at}].content")
    return conversation.messages


def continues(turns: Sequence[Turn]) -> bool:
    """Whether the answer goes on where the assistant's last turn ends. Raises BadRequest where a result is missing.

    A turn without blocks is none: what would go on is the turn before it, which is somebody else's.
    """
    last = turns[-1]
    if last.role != "assistant" or last.content == []:
        return False
    if not isinstance(last.content, str) and any(block.get("type") == "tool_use" for block in last.content):
        raise BadRequest("After a tool_use block `messages` must go on with its tool_result.", param="messages")
    return True


def _add_system(conversation: Conversation, content: str | list[Json], path: str) -> None:
    conversation.add("system", text_of(content, path, _TEXT, "messages"))


def _add_user(conversation: Conversation, content: str | list[Json], path: str) -> None:
    """What tools answered are messages of their own; texts between them stay together."""
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    texts: list[str] = []
    for at, block in enumerate(blocks):
        if block.get("type") == "tool_result":
            _flush(conversation, texts)
            _add_result(conversation, block, f"{path}[{at}]")
        else:
            texts.append(part_text(block, f"{path}[{at}]", _TEXT, "messages"))
    _flush(conversation, texts)


def _flush(conversation: Conversation, texts: list[str]) -> None:
    if texts:
        conversation.add("user", "".join(texts))
        texts.clear()


def _add_result(conversation: Conversation, block: Json, path: str) -> None:
    content = text_of(block.get("content") or "", f"{path}.content", _TEXT, "messages")
    conversation.result(string_of(block, "tool_use_id", path, "messages"), content)


def _add_assistant(conversation: Conversation, content: str | list[Json], path: str) -> None:
    conversation.begin_turn()
    if isinstance(content, str):
        conversation.say(content)
        return
    for at, block in enumerate(content):
        _add_block(conversation, block, f"{path}[{at}]")


def _add_block(conversation: Conversation, block: Json, path: str) -> None:
    kind = block.get("type")
    if kind == "thinking":
        conversation.think(string_of(block, "thinking", path, "messages"))
    elif kind == "redacted_thinking":
        raise UnsupportedParameter(
            f"`{path}`: thinking that another server has encrypted cannot be read here; leave this block out.",
            param="messages",
        )
    elif kind == "tool_use":
        given = block.get("input")
        if not isinstance(given, dict):
            raise BadRequest(f"`{path}.input` must be an object.", param="messages")
        name, call_id = (string_of(block, field, path, "messages") for field in ("name", "id"))
        conversation.call(call_id, name, json.dumps(given, ensure_ascii=False))
    elif kind == "text":
        conversation.go_on(string_of(block, "text", path, "messages"))
    else:
        raise UnsupportedParameter(
            f"`{path}`: blocks of the type {quoted(kind)} are not supported; text, thinking and tool_use are.",
            param="messages",
        )


_ADDING: Final = {"system": _add_system, "user": _add_user, "assistant": _add_assistant}
