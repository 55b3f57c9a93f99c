"""Hermes' format, which Qwen 2.5 and Qwen 3 write: `<tool_call>{"name": …, "arguments": {…}}</tool_call>`."""

import json
from collections.abc import Mapping, Sequence

from deltaserve.server.answers.parts import AnswerParser
from deltaserve.server.answers.tools.grammars.lark import (
    alternatives,
    arguments_rule,
    chosen,
    literal,
    mark,
)
from deltaserve.server.answers.tools.grammars.tagged import Tagged
from deltaserve.server.answers.tools.protocol import Tool, ToolChoice
from deltaserve.server.answers.tools.reading.json_calls import Outcome, json_call
from deltaserve.server.answers.tools.reading.reader import Calls, Reader
from deltaserve.server.answers.tools.reading.source import Reading, Source
from deltaserve.server.answers.tools.reading.text import Parts, content, no_call, peek, shown, sign_next, spaces, until

BEGIN, END = "<tool_call>", "</tool_call>"
NEW_LINE = "\n"
OTHERS = ("<function=", "<arg_key>")  # what Qwen3-Coder and GLM write between the same marks


class Hermes:
    name = "hermes"
    reasons = False

    def matches(self, template: str) -> bool:
        return BEGIN in template and not any(other in template for other in OTHERS)

    def markers(self) -> tuple[str, ...]:
        return (BEGIN, END)

    def parser(self, _tools: Sequence[Tool], special: Mapping[str, int]) -> AnswerParser:
        return Reader(_read, Source(self.markers(), special))

    def grammar(
        self, tools: Sequence[Tool], choice: ToolChoice, parallel: bool, special: Mapping[str, int]
    ) -> str | None:
        tools = chosen(tools, choice)
        if not tools:
            return None
        rules = alternatives(tools, lambda tool: f"{_object(tool)} {mark(END, special)}")
        return Tagged(BEGIN, [rules], between="\n").grammar(choice, parallel, special)


def _object(tool: Tool) -> str:
    head = literal(f'\n{{"name": {json.dumps(tool.name)}, "arguments": ')
    return f"{head} {arguments_rule(tool)} {literal('}' + NEW_LINE)}"


def _read(source: Source, calls: Calls) -> Reading:
    begin = source.sign(BEGIN)
    while (yield from content(source, calls, begin)):
        yield from _tagged(source, calls)


def _tagged(source: Source, calls: Calls) -> Parts[None]:
    """What stands behind the first mark: one object, or some. Text that is no call is content, with its mark."""
    outcome = yield from json_call(source, calls)
    if outcome is Outcome.NO_CALL:
        yield from no_call(source, BEGIN)
        return
    while outcome is Outcome.WHOLE and (yield from _another(source)):
        outcome = yield from json_call(source, calls)
    if outcome is Outcome.BROKEN:
        yield from shown(until(source, source.sign(END)), calls.arguments)
    else:
        yield from sign_next(source, source.sign(END))


def _another(source: Source) -> Parts[bool]:
    yield from spaces(source)
    return (yield from peek(source)) == "{"
