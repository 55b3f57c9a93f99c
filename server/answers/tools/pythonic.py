"""Llama's calls in Python, which Llama 3.2 and 4 write and Gemma's guide shows: `[name(key=value), …]`."""

from collections.abc import Mapping, Sequence

from deltaserve.server.answers.parts import AnswerParser
from deltaserve.server.answers.tools.grammars.lark import alternatives, chosen, literal, several
from deltaserve.server.answers.tools.grammars.unmarked import unmarked
from deltaserve.server.answers.tools.grammars.written import Rules, python_parameters
from deltaserve.server.answers.tools.protocol import Tool, ToolChoice
from deltaserve.server.answers.tools.reading.json_calls import Outcome
from deltaserve.server.answers.tools.reading.json_text import taken
from deltaserve.server.answers.tools.reading.python_calls import python_call
from deltaserve.server.answers.tools.reading.reader import Calls, Reader
from deltaserve.server.answers.tools.reading.source import Reading, Source
from deltaserve.server.answers.tools.reading.text import Parts, content, no_call, sign_next, spaces, unread

TAG, START, END = "<|python_tag|>", "<|python_start|>", "<|python_end|>"
_CALL_BEGUN = r"\[\s*[A-Za-z_][\w.:\/\-]*\("


class Pythonic:
    name = "llama3_pythonic"
    reasons = False

    def matches(self, template: str) -> bool:
        return "[func_name1(" in template

    def markers(self) -> tuple[str, ...]:
        return (TAG, START, END)

    def parser(self, _tools: Sequence[Tool], special: Mapping[str, int]) -> AnswerParser:
        return Reader(_read, Source(self.markers(), special))

    def grammar(
        self, tools: Sequence[Tool], choice: ToolChoice, parallel: bool, special: Mapping[str, int]
    ) -> str | None:
        tools = chosen(tools, choice)
        if not tools:
            return None
        rules = Rules()
        more = f" ({literal(', ')} call)*" if several(choice, parallel) else ""
        # The first call's head is one text with its bracket: beside it stands free text, which begins with it too.
        arguments = {tool.name: f"{python_parameters(rules, tool)} {literal(')')}" for tool in tools}
        first = alternatives(tools, lambda tool: f"{literal(f'[{tool.name}(')} {arguments[tool.name]}", rule="first")
        call = alternatives(tools, lambda tool: f"{literal(f'{tool.name}(')} {arguments[tool.name]}")
        tag = START if START in special else TAG
        return unmarked(f'calls: first{more} "]"', [first, call, *rules.lines], _CALL_BEGUN, tag, choice, special)


def _read(source: Source, calls: Calls) -> Reading:
    tags = source.sign(TAG), source.sign(START)
    source.keep()
    yield from spaces(source)
    marked = yield from sign_next(source, *tags)
    if not marked:
        source.put_back()
    while True:
        yield from _calls(source, calls, marked)
        if not (marked := (yield from content(source, calls, *tags))):
            return


def _calls(source: Source, calls: Calls, marked: str | None) -> Parts[None]:
    outcome = yield from python_call(source, calls, opening="[")
    if outcome is Outcome.NO_CALL and marked:
        yield from no_call(source, source.spelled(marked))
        return
    while outcome is Outcome.WHOLE:
        yield from spaces(source)
        if not (yield from taken(source, ",")):
            yield from taken(source, "]")
            yield from spaces(source)
            yield from sign_next(source, source.sign(END))
            return
        outcome = yield from python_call(source, calls)
    if outcome is Outcome.BROKEN:
        yield from unread(source, calls, source.sign(END))
