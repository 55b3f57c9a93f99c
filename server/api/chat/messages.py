"""Messages as clients send them, in the form that chat templates read."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, NoReturn

from deltaserve.errors import BadRequest, UnsupportedParameter
from deltaserve.server.api.requests.body import JsonObject
from deltaserve.server.api.requests.json_text import MAX_DEPTH
from deltaserve.server.api.requests.schema import Message

_REASONING: Final = ("reasoning_content", "reasoning")  # two names of one thing; templates read the first


def plain(message: Message, at: int) -> dict[str, Any]:
    """A message as it was sent: content is a string, a list of text parts, or null beside an assistant's tool calls.

    What an assistant thought before has the name that templates read. Raises BadRequest.
    """
    sent = message.model_dump(exclude_unset=True)
    if isinstance(message.content, list):
        for number, part in enumerate(message.content):
            _check_part(part, f"messages[{at}].content[{number}]")
    sent["content"] = message.content
    if sent["content"] is None and not sent.get("tool_calls"):
        if message.role != "assistant":
            raise BadRequest(
                f"`messages[{at}].content` is required: only an assistant's message may go without.", param="messages"
            )
        sent["content"] = ""  # what clients keep of a turn in which nothing was said
    first, second = _REASONING
    if isinstance(sent.get(second), str):
        sent.setdefault(first, sent[second])
    return sent


def _check_part(part: JsonObject, path: str) -> None:
    if part.get("type") != "text":
        raise UnsupportedParameter(
            f"`{path}`: only text parts are supported; no images, audio or files.", param="messages"
        )
    if not isinstance(part.get("text"), str):
        raise BadRequest(f"`{path}.text` must be a string.", param="messages")


def said(message: Mapping[str, Any]) -> str:
    """The text of a message's content."""
    content = message["content"]
    return content if isinstance(content, str) else "".join(part["text"] for part in content or ())


def with_objects(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The same with the arguments of earlier calls as objects: clients send their JSON as a string."""
    return [{**message, **_calls(message)} for message in messages]


def _calls(message: Mapping[str, Any]) -> dict[str, Any]:
    calls = message.get("tool_calls")
    return {"tool_calls": [_with_object(call) for call in calls]} if isinstance(calls, list) else {}


def _with_object(call: Any) -> Any:
    function = call.get("function") if isinstance(call, dict) else None
    text = function.get("arguments") if isinstance(function, dict) else None
    if not isinstance(text, str):
        return call
    try:
        arguments = json.loads(text, parse_constant=_refuse)  # whole numbers of any length stay what they are
    except (ValueError, RecursionError):
        return call  # of a call that was cut: as it was written
    if not isinstance(arguments, dict) or _is_too_deep(arguments):
        return call
    return {**call, "function": {**call["function"], "arguments": arguments}}


def _is_too_deep(value: Any) -> bool:
    """Whether it has more levels than a body may have: in a string nobody has counted them."""
    level = [value]
    for _ in range(MAX_DEPTH):
        inner = (each.values() if isinstance(each, dict) else each for each in level if isinstance(each, dict | list))
        level = [one for several in inner for one in several]
    return bool(level)


def _refuse(constant: str) -> NoReturn:
    """Python reads NaN and the infinities, which are no JSON."""
    raise ValueError(constant)
