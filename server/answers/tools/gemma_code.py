"""Gemma 3's calls in a block of Python: a line ```` ```tool_code ````, calls, and the block's end."""

from collections.abc import Mapping, Sequence
from typing import Final

from deltaserve.server.answers.parts import AnswerParser
from deltaserve.server.answers.tools.grammars.lark import alternatives, chosen, literal, several
from deltaserve.server.answers.tools.grammars.tagged import Tagged
from deltaserve.server.answers.tools.grammars.written import Rules, python_parameters
from deltaserve.server.answers.tools.protocol import Tool, ToolChoice
from deltaserve.server.answers.tools.reading.json_calls import Outcome
from deltaserve.server.answers.tools.reading.json_text import taken
from deltaserve.server.answers.tools.reading.python_calls import python_call
from deltaserve.server.answers.tools.reading.reader import Calls, Reader
from deltaserve.server.answers.tools.reading.source import Reading, Source
from deltaserve.server.answers.tools.reading.text import Parts, content, no_call, sign_next, spaces, unread

BEGIN, END = "```tool_code", "```"
PRINT: Final = "print("  # around a call, as the guide's examples have it


class GemmaCode:
    name = "gemma"
    reasons = False

    def matches(self, template: str) -> bool:
        return BEGIN in template

    def markers(self) -> tuple[str, ...]:
        return ()

    def parser(self, _tools: Sequence[Tool], special: Mapping[str, int]) -> AnswerParser:
        return Reader(_read, Source(self.markers(), special))

    def grammar(
        self, tools: Sequence[Tool], choice: ToolChoice, parallel: bool, special: Mapping[str, int]
    ) -> str | None:
        tools = chosen(tools, choice)
        if not tools:
            return None
        rules = Rules()
        more = f" ({literal(NEW_LINE)} one)*" if several(choice, parallel) else ""
        calls = f"call: {literal(NEW_LINE)} one{more} {literal(NEW_LINE + END)}"
        one = alternatives(
            tools,
            lambda tool: f"{literal(tool.name + '(')} {python_parameters(rules, tool)} {literal(')')}",
            rule="one",
        )
        return Tagged(BEGIN, [calls, one, *rules.lines]).grammar(choice, False, special)


NEW_LINE = "\n"


def _read(source: Source, calls: Calls) -> Reading:
    while (yield from content(source, calls, BEGIN)):
        outcome = yield from _line(source, calls)
        if outcome is Outcome.NO_CALL:
            yield from no_call(source, BEGIN)
            continue
        while outcome is Outcome.WHOLE and not (yield from sign_next(source, END)):
            outcome = yield from _line(source, calls)
        if outcome is Outcome.BROKEN:
            yield from unread(source, calls, END)


def _line(source: Source, calls: Calls) -> Parts[Outcome]:
    """One call, and the spaces behind it."""
    outcome = yield from python_call(source, calls, wrapper=PRINT)
    if outcome is Outcome.WHOLE:
        yield from spaces(source)
        yield from taken(source, ")")
        yield from spaces(source)
    return outcome
