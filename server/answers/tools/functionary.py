"""Functionary's formats: v3.2 `>>>name` and a line of arguments, v3.1 `<function=name>{…}</function>`.

In v3.2 the prompt ends with `>>>`, so an answer begins with a recipient: `all` is content, any other one is called.
"""

from collections.abc import Mapping, Sequence

from deltaserve.server.answers.parts import AnswerParser, Content
from deltaserve.server.answers.tools.grammars.either import around
from deltaserve.server.answers.tools.grammars.lark import (
    ANY_TEXT,
    alternatives,
    arguments_rule,
    chosen,
    literal,
    several,
)
from deltaserve.server.answers.tools.grammars.tagged import Tagged
from deltaserve.server.answers.tools.protocol import Tool, ToolChoice
from deltaserve.server.answers.tools.reading.json_calls import named_call
from deltaserve.server.answers.tools.reading.loose import NAME, word
from deltaserve.server.answers.tools.reading.reader import Calls, Reader
from deltaserve.server.answers.tools.reading.source import Reading, Source
from deltaserve.server.answers.tools.reading.text import (
    Waiting,
    content,
    no_call,
    peek,
    shown,
    sign_next,
    until,
)

RECIPIENT, ALL, NEW_LINE = ">>>", "all", "\n"
FUNCTION, FUNCTION_END = "<function=", "</function>"


class Functionary:
    name = "functionary"
    reasons = False

    def matches(self, template: str) -> bool:
        return ">>>all" in template or ">>>${recipient}" in template

    def markers(self) -> tuple[str, ...]:
        return ()

    def parser(self, _tools: Sequence[Tool], special: Mapping[str, int]) -> AnswerParser:
        return Reader(_read_recipients, Source(self.markers(), special))

    def grammar(
        self, tools: Sequence[Tool], choice: ToolChoice, parallel: bool, _special: Mapping[str, int]
    ) -> str | None:
        tools = chosen(tools, choice)
        if not tools:
            return None
        call = alternatives(tools, _call)
        more = _more(several(choice, parallel))
        if choice != "auto":
            return "\n".join(["%llguidance {}", f"start: call{more}", call])
        heads = [f"text_{n}[lazy]: TEXT {literal(RECIPIENT + tool.name + NEW_LINE)}" for n, tool in enumerate(tools)]
        after = [f"text_{n} {arguments_rule(tool)}" for n, tool in enumerate(tools)]
        start = f"start: {literal(ALL + NEW_LINE)} (text | after{more}) | call{more}"
        text = ["text: TEXT", f"TEXT: {ANY_TEXT}", f"after: {' | '.join(after)}", *heads]
        return "\n".join(["%llguidance {}", start, *text, call])

    def held(self, form: str, tools: Sequence[Tool], parallel: bool, _special: Mapping[str, int]) -> str:
        """The form is told to all."""
        start = f"start: {literal(ALL + NEW_LINE)} @answer_0"
        if not tools:
            return around(form, start)
        return around(form, f"{start} | call{_more(parallel)}\n{alternatives(tools, _call)}")


def _call(tool: Tool) -> str:
    return f"{literal(tool.name + NEW_LINE)} {arguments_rule(tool)}"


def _more(parallel: bool) -> str:
    return f" ({literal(RECIPIENT)} call)*" if parallel else ""


class FunctionaryTags:
    name = "functionary_v31"
    reasons = False

    def matches(self, template: str) -> bool:
        return FUNCTION in template and "<parameter=" not in template

    def markers(self) -> tuple[str, ...]:
        return ()

    def parser(self, _tools: Sequence[Tool], special: Mapping[str, int]) -> AnswerParser:
        return Reader(_read_tags, Source(self.markers(), special))

    def grammar(
        self, tools: Sequence[Tool], choice: ToolChoice, parallel: bool, special: Mapping[str, int]
    ) -> str | None:
        tools = chosen(tools, choice)
        if not tools:
            return None
        end = literal(FUNCTION_END)
        call = alternatives(tools, lambda tool: f"{literal(tool.name + '>')} {arguments_rule(tool)} {end}")
        return Tagged(FUNCTION, [call]).grammar(choice, parallel, special)


def _read_recipients(source: Source, calls: Calls) -> Reading:
    before = ""
    while (yield from peek(source)):
        source.keep()
        name = yield from _recipient(source)
        if name:
            source.drop()
        else:
            source.put_back()
            yield Content(before)
        if name and name != ALL:
            yield from named_call(source, calls, name)
            yield from sign_next(source, NEW_LINE)
        before = (yield from shown(until(source, RECIPIENT), Content)) or ""
    yield Content(before)


def _recipient(source: Source) -> Waiting[str]:
    """The name, with its line; empty where none stands here. Arguments follow a name that is not `all`."""
    name = yield from word(source, NAME)
    if not name or not (yield from sign_next(source, NEW_LINE)):
        return ""
    return name if name == ALL or (yield from peek(source)) == "{" else ""


def _read_tags(source: Source, calls: Calls) -> Reading:
    while (yield from content(source, calls, FUNCTION)):
        source.keep()
        name = yield from word(source, NAME)
        if name and (yield from sign_next(source, ">")):
            source.drop()
            yield from named_call(source, calls, name, FUNCTION_END)
        else:
            source.put_back()
            yield from no_call(source, FUNCTION)
