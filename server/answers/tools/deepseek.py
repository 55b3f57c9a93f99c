"""DeepSeek's formats, which differ in how a name and its arguments stand between the same tokens.

V3 and R1: `<call>function<sep>name`, then the arguments in a fenced block; V3.1: `<call>name<sep>{…}`.
"""

from collections.abc import Mapping, Sequence

from deltaserve.server.answers.parts import AnswerParser
from deltaserve.server.answers.tools.grammars.lark import (
    alternatives,
    arguments_rule,
    chosen,
    literal,
    mark,
    several,
)
from deltaserve.server.answers.tools.grammars.tagged import Tagged
from deltaserve.server.answers.tools.protocol import Tool, ToolChoice
from deltaserve.server.answers.tools.reading.json_calls import named_call
from deltaserve.server.answers.tools.reading.reader import Calls, Reader
from deltaserve.server.answers.tools.reading.source import Reading, Source
from deltaserve.server.answers.tools.reading.text import Parts, content, no_call, sign_next, spaces, text_until

BEGIN, END = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"
CALL, SEPARATOR, CALL_END = "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁call▁end｜>"
FENCE = "```"
NEW_LINE = "\n"


class DeepSeek:
    """`fenced`: the form of V3 and R1."""

    reasons = False

    def __init__(self, name: str, fenced: bool) -> None:
        self.name, self._fenced = name, fenced

    def matches(self, template: str) -> bool:
        return BEGIN in template and ("```json" in template) is self._fenced

    def markers(self) -> tuple[str, ...]:
        return (BEGIN, END, CALL, SEPARATOR, CALL_END)

    def parser(self, _tools: Sequence[Tool], special: Mapping[str, int]) -> AnswerParser:
        return Reader(self._read, Source(self.markers(), special))

    def grammar(
        self, tools: Sequence[Tool], choice: ToolChoice, parallel: bool, special: Mapping[str, int]
    ) -> str | None:
        tools = chosen(tools, choice)
        if not tools:
            return None
        begin, end = mark(CALL, special), mark(CALL_END, special)
        more = f" ({literal(self._between)} {begin} one)*" if several(choice, parallel) else ""
        calls = f"call: {begin} one{more} {mark(END, special)}"
        one = alternatives(tools, lambda tool: f"{self._body(tool, special)} {end}", rule="one")
        return Tagged(BEGIN, [calls, one]).grammar(choice, False, special)

    @property
    def _between(self) -> str:
        return "\n" if self._fenced else ""

    def _body(self, tool: Tool, special: Mapping[str, int]) -> str:
        separator, value = mark(SEPARATOR, special), arguments_rule(tool)
        if not self._fenced:
            return f"{literal(tool.name)} {separator} {value}"
        head = literal(f"{tool.name}\n{FENCE}json\n")
        return f"{literal('function')} {separator} {head} {value} {literal(f'{NEW_LINE}{FENCE}')}"

    def _read(self, source: Source, calls: Calls) -> Reading:
        begin, end, call = map(source.sign, (BEGIN, END, CALL))
        while (yield from content(source, calls, begin)):
            some = False
            yield from spaces(source)
            while (yield from sign_next(source, call)):
                some = True
                yield from self._call(source, calls)
                yield from spaces(source)
            if not some:
                yield from no_call(source, BEGIN)
            yield from sign_next(source, end)

    def _call(self, source: Source, calls: Calls) -> Parts[None]:
        separator, end = source.sign(SEPARATOR), source.sign(CALL_END)
        name, sign = yield from text_until(source, separator, end)
        if self._fenced and sign:
            name, sign = yield from text_until(source, "\n", end)
        if not sign or not name.strip():
            return
        if self._fenced:
            yield from _opened(source)
        yield from named_call(source, calls, name.strip(), *((FENCE + end, end) if self._fenced else (end,)))


def _opened(source: Source) -> Parts[None]:
    """Takes the line that opens the block."""
    yield from spaces(source)
    if (yield from sign_next(source, FENCE)):
        yield from sign_next(source, "json")
        yield from spaces(source)
