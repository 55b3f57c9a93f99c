"""`tools` and `tool_choice` as parsers and grammars take them."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from deltaserve.errors import BadRequest, UnsupportedParameter
from deltaserve.server.answers.tools.protocol import NamedTool, Tool, ToolChoice
from deltaserve.server.api.requests.body import JsonObject
from deltaserve.server.api.requests.naming import quoted
from deltaserve.server.api.requests.schema import ChatRequest

_NAME: Final = re.compile(r"[A-Za-z0-9_.:/-]{1,128}")
_CHOICE: Final = (
    '`tool_choice` must be "auto", "none", "required", or {"type": "function", "function": {"name": …}} with a name '
    "that `tools` has."
)


@dataclass(frozen=True, slots=True)
class Calling:
    """Which tools an answer may call."""

    tools: Sequence[Tool] = ()
    choice: ToolChoice = "none"
    parallel: bool = True  # more than one call in an answer

    @property
    def forced(self) -> bool:
        """Whether an answer is nothing but calls."""
        return self.choice not in ("none", "auto")


def calling_of(body: ChatRequest) -> Calling:
    """Raises BadRequest; UnsupportedParameter for tools that are no functions."""
    given = body.tool_choice
    if given == "none" or (given in (None, "auto") and not body.tools):
        return Calling()
    if not body.tools:
        raise BadRequest("`tool_choice` needs `tools`: there is nothing to choose from.", param="tool_choice")
    tools = [_tool(tool, f"tools[{at}]") for at, tool in enumerate(body.tools)]
    _refuse_repeated(tools)
    if isinstance(given, dict) and given.get("type") == "allowed_tools":
        return _allowed(tools, given, body.parallel_tool_calls)
    return Calling(tools, _choice("auto" if given is None else given, tools), body.parallel_tool_calls)


def _tool(tool: JsonObject, path: str) -> Tool:
    if tool.get("type") != "function":
        raise UnsupportedParameter(f"`{path}.type` must be 'function': no other tools are supported.", param="tools")
    function = tool.get("function")
    if not isinstance(function, dict):
        raise BadRequest(f"`{path}.function` must be an object with a name.", param="tools")
    name, parameters, strict = (function.get(field) for field in ("name", "parameters", "strict"))
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise BadRequest(
            f"`{path}.function.name` must be 1 to 128 letters, digits, '_', '-', '.', ':' or '/'.", param="tools"
        )
    if not isinstance(parameters, dict | None):
        raise BadRequest(f"`{path}.function.parameters` must be a JSON Schema, which is an object.", param="tools")
    if not isinstance(strict, bool | None):
        raise BadRequest(f"`{path}.function.strict` must be true or false.", param="tools")
    return Tool(name, parameters, bool(strict))


def _refuse_repeated(tools: Sequence[Tool]) -> None:
    repeated, times = Counter(tool.name for tool in tools).most_common(1)[0]
    if times > 1:
        raise BadRequest(f"`tools` has two functions named {quoted(repeated)}.", param="tools")


def _choice(given: str | JsonObject, tools: Sequence[Tool]) -> ToolChoice:
    if given == "auto":
        return "auto"
    if given == "required":
        return "required"
    name = _named(given) if isinstance(given, dict) else None
    if name is None or name not in [tool.name for tool in tools]:
        raise BadRequest(_CHOICE, param="tool_choice")
    return NamedTool(name)


def _named(choice: JsonObject) -> str | None:
    function: Any = choice.get("function")
    name = function.get("name") if choice.get("type") == "function" and isinstance(function, dict) else None
    return name if isinstance(name, str) else None


def _allowed(tools: Sequence[Tool], given: JsonObject, parallel: bool) -> Calling:
    """OpenAI's `allowed_tools`: the model sees all tools, and may call these."""
    allowed: Any = given.get("allowed_tools")
    mode = allowed.get("mode") if isinstance(allowed, dict) else None
    listed = allowed.get("tools") if isinstance(allowed, dict) else None
    names = {_named(one) for one in listed if isinstance(one, dict)} if isinstance(listed, list) else set()
    known = [tool for tool in tools if tool.name in names]
    if mode not in ("auto", "required") or not known or len(known) < len(names):
        raise BadRequest(
            '`tool_choice.allowed_tools` must have a `mode`, "auto" or "required", and `tools` that are among `tools`.',
            param="tool_choice",
        )
    return Calling(known, "auto" if mode == "auto" else "required", parallel)
