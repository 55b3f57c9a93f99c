"""A conversation of another API, put together turn by turn as chat messages."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from deltaserve.errors import BadRequest, UnsupportedParameter
from deltaserve.server.api.requests.naming import quoted

Json = dict[str, Any]

_BETWEEN_INSTRUCTIONS = "\n\n"


@dataclass(slots=True)
class Conversation:
    """Chat messages. What an assistant thinks, says and calls in one turn becomes one message."""

    messages: list[Json] = field(default_factory=list)
    _turn: Json | None = None  # the assistant's, while it may grow

    def add(self, role: str, content: str, **more: Any) -> None:
        """A turn of somebody else. Instructions that come one after another at the beginning are one message.

        Templates know one such message at most, and the other APIs have two places for it.
        """
        self._turn = None
        first = self.messages[0] if len(self.messages) == 1 else None
        if role == "system" and first is not None and first["role"] == "system":
            first["content"] += _BETWEEN_INSTRUCTIONS + content
        else:
            self.messages.append({"role": role, "content": content, **more})

    def think(self, text: str) -> None:
        """Reasoning of the assistant: it comes before what it says and calls."""
        turn = self._assistant(closed_by=("content", "tool_calls"))
        turn["reasoning_content"] = turn.get("reasoning_content", "") + text

    def say(self, text: str) -> None:
        """A message of the assistant; a second one is a turn of its own."""
        self._assistant(closed_by=("content",))["content"] = text

    def go_on(self, text: str) -> None:
        """More of what the assistant says in this turn."""
        turn = self._assistant(closed_by=())
        turn["content"] = turn.get("content", "") + text

    def begin_turn(self) -> None:
        """What the assistant does from here on is another turn."""
        self._turn = None

    def call(self, call_id: str, name: str, arguments: str) -> None:
        """A tool call of the assistant; `arguments` is a JSON text."""
        called = {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
        self._assistant(closed_by=()).setdefault("tool_calls", []).append(called)

    def result(self, call_id: str, content: str) -> None:
        """What a tool answered."""
        self.add("tool", content, tool_call_id=call_id)

    def _assistant(self, closed_by: Sequence[str]) -> Json:
        if self._turn is None or any(name in self._turn for name in closed_by):
            self._turn = {"role": "assistant"}
            self.messages.append(self._turn)
        return self._turn


def text_of(content: Any, path: str, texts: Sequence[str], param: str) -> str:
    """The text of a string or of a list of parts whose types are in `texts`.

    Raises UnsupportedParameter for images, audio and files, BadRequest for what is no content at all.
    """
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise BadRequest(f"`{path}` must be a string or a list of text parts.", param=param)
    return "".join(part_text(part, f"{path}[{at}]", texts, param) for at, part in enumerate(content))


def part_text(part: Any, path: str, texts: Sequence[str], param: str) -> str:
    """The text of one part of a content. Raises as `text_of`."""
    kind = part.get("type") if isinstance(part, dict) else None
    if not isinstance(kind, str):
        raise BadRequest(f"`{path}` must be an object with a `type`.", param=param)
    if kind not in texts:
        raise UnsupportedParameter(
            f"`{path}`: {quoted(kind)} is not supported, only text ({', '.join(texts)}); this server reads no images, "
            "audio or files.",
            param=param,
        )
    return string_of(part, "refusal" if kind == "refusal" else "text", path, param)


def string_of(item: Json, name: str, path: str, param: str) -> str:
    """A field that must be a string. Raises BadRequest naming it."""
    value = item.get(name)
    if not isinstance(value, str):
        raise BadRequest(f"`{path}.{name}` must be a string.", param=param)
    return value
