"""Pieces of llguidance's grammars: what is called, with which arguments.

Syntax: llguidance's docs/syntax.md. Each schema is a `%json` of its own, so that its `$ref`s keep their root.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from deltaserve.errors import BadRequest
from deltaserve.server.answers.tools.protocol import NamedTool, Tool, ToolChoice

NO_PARAMETERS: Final[Mapping[str, Any]] = {"type": "object", "properties": {}, "additionalProperties": False}
ANY_TEXT: Final = r"/(.|\n)*/"


def literal(text: str) -> str:
    """Exactly this text."""
    return json.dumps(text)


def mark(text: str, special: Mapping[str, int]) -> str:
    """The token, where the tokenizer has it; else its letters."""
    return f"<[{special[text]}]>" if text in special else literal(text)


def json_rule(schema: Mapping[str, Any]) -> str:
    return f"%json {json.dumps(schema)}"


def arguments_schema(tool: Tool) -> dict[str, Any]:
    """An object by the tool's schema. A tool that is not strict may have keywords that grammars do not know."""
    schema = dict(tool.parameters or NO_PARAMETERS)
    return schema | {"type": "object", "x-guidance": {"lenient": not tool.strict}}


def chosen(tools: Sequence[Tool], choice: ToolChoice) -> Sequence[Tool]:
    """The tools that may be called. Raises `BadRequest` where the choice names none of them."""
    if choice == "none":
        return ()
    if not isinstance(choice, NamedTool):
        return tools
    named = [tool for tool in tools if tool.name == choice.name]
    if not named:
        raise BadRequest("tool_choice names a function that is not among the tools.", param="tool_choice")
    return named


def several(choice: ToolChoice, parallel: bool) -> bool:
    """Whether an answer may hold more than one call: where one is named, it is called once."""
    return parallel and not isinstance(choice, NamedTool)


def alternatives(tools: Sequence[Tool], body: Callable[[Tool], str], rule: str = "call") -> str:
    """A rule for any of the tools, and one for each."""
    names = [f"{rule}_{n}" for n in range(len(tools))]
    rules = [f"{name}: {body(tool)}" for name, tool in zip(names, tools, strict=True)]
    return "\n".join([f"{rule}: {' | '.join(names)}", *rules])
