"""Pieces of llguidance's grammars: what is called, with which arguments.

Syntax: llguidance's docs/syntax.md. Each schema is a `%json` of its own, so that its `$ref`s keep their root.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from deltaserve.errors import BadRequest
from deltaserve.server.answers.tools.grammars.loosened import loosened
from deltaserve.server.answers.tools.protocol import NamedTool, Tool, ToolChoice
from deltaserve.server.grammars.json_schema import Spacing, json_grammar

NO_PARAMETERS: Final[Mapping[str, Any]] = {"type": "object", "properties": {}, "additionalProperties": False}
ANY_TEXT: Final = r"/(.|\n)*/"


def literal(text: str) -> str:
    """Exactly this text."""
    return json.dumps(text)


def mark(text: str, special: Mapping[str, int]) -> str:
    """The token, where the tokenizer has it; else its letters."""
    return f"<[{special[text]}]>" if text in special else literal(text)


def kept(schema: Mapping[str, Any], *, strict: bool) -> Mapping[str, Any]:
    """The schema as grammars take it. Raises `BadRequest` where a strict one has what no grammar can keep.

    Of one that is not strict, what cannot be kept is left out, as OpenAI's best effort leaves it.
    """
    asked: Mapping[str, Any] = schema if strict else loosened(schema)
    try:
        return json_grammar(asked).schema.schema
    except BadRequest as error:
        if strict:
            raise BadRequest(f"A strict tool's `parameters`: {error.message}", param="tools") from None
        return asked


def embedded(schema: Mapping[str, Any], *, strict: bool) -> str:
    """A JSON text by a schema that is `kept`."""
    return f"%json {json.dumps({**schema, 'x-guidance': {**Spacing().options, 'lenient': not strict}})}"


def json_rule(schema: Mapping[str, Any], *, strict: bool) -> str:
    """A JSON text by this schema. Raises `BadRequest` as `kept`."""
    return embedded(kept(schema, strict=strict), strict=strict)


def arguments_schema(tool: Tool) -> dict[str, Any]:
    """An object by the tool's schema. Without parameters it is empty."""
    return {**(tool.parameters or NO_PARAMETERS), "type": "object"}


def arguments_rule(tool: Tool) -> str:
    """All arguments of a tool. Raises `BadRequest` as `kept`."""
    return json_rule(arguments_schema(tool), strict=tool.strict)


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
