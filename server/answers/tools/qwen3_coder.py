"""Qwen3-Coder's format: `<tool_call><function=name><parameter=key>value</parameter></function></tool_call>`."""

import json
import re
from collections.abc import Mapping, Sequence

from deltaserve.server.answers.parts import AnswerParser
from deltaserve.server.answers.tools.grammars.lark import alternatives, chosen, literal, mark
from deltaserve.server.answers.tools.grammars.tagged import Tagged
from deltaserve.server.answers.tools.grammars.written import Rules, xml_parameters
from deltaserve.server.answers.tools.protocol import Tool, ToolChoice
from deltaserve.server.answers.tools.reading.json_calls import NO_ARGUMENTS
from deltaserve.server.answers.tools.reading.loose import inside, word
from deltaserve.server.answers.tools.reading.reader import Calls, Reader
from deltaserve.server.answers.tools.reading.source import Reading, Source
from deltaserve.server.answers.tools.reading.text import (
    Parts,
    Pieces,
    Waiting,
    collected,
    content,
    no_call,
    shown,
    sign_next,
    spaces,
    unread,
    until,
)
from deltaserve.server.answers.tools.reading.typed import STRING, as_json, parameter_types

BEGIN, END = "<tool_call>", "</tool_call>"
FUNCTION, FUNCTION_END = "<function=", "</function>"
PARAMETER, PARAMETER_END = "<parameter=", "</parameter>"
NEW_LINE = "\n"
_NAME = re.compile(r"[^>\s]+")


class Qwen3Coder:
    name = "qwen3_coder"
    reasons = False

    def matches(self, template: str) -> bool:
        return FUNCTION in template and PARAMETER in template

    def markers(self) -> tuple[str, ...]:
        return (BEGIN, END)

    def parser(self, tools: Sequence[Tool], special: Mapping[str, int]) -> AnswerParser:
        return Reader(_Coder(tools).read, Source(self.markers(), special))

    def grammar(
        self, tools: Sequence[Tool], choice: ToolChoice, parallel: bool, special: Mapping[str, int]
    ) -> str | None:
        tools = chosen(tools, choice)
        if not tools:
            return None
        rules = Rules()
        call = alternatives(tools, lambda tool: f"{_head(tool)} {xml_parameters(rules, tool)} {_end(special)}")
        return Tagged(BEGIN, [call, *rules.lines], between="\n").grammar(choice, parallel, special)


def _head(tool: Tool) -> str:
    return literal(f"\n{FUNCTION}{tool.name}>\n")


def _end(special: Mapping[str, int]) -> str:
    return f"{literal(f'{FUNCTION_END}{NEW_LINE}')} {mark(END, special)}"


class _Coder:
    def __init__(self, tools: Sequence[Tool]) -> None:
        self._tools = tools

    def read(self, source: Source, calls: Calls) -> Reading:
        begin, end = source.sign(BEGIN), source.sign(END)
        while sign := (yield from content(source, calls, begin, FUNCTION)):
            source.keep()
            if not (yield from self._named(source, sign)):
                source.put_back()
                yield from no_call(source, source.spelled(sign))
                continue
            yield from self._call(source, calls)
            yield from spaces(source)
            yield from sign_next(source, end)

    def _named(self, source: Source, sign: str) -> Waiting[bool]:
        """Whether a function's name follows, closed by `>`, with which the text then begins."""
        yield from spaces(source)
        if sign != FUNCTION and not (yield from sign_next(source, FUNCTION)):
            return False
        self._name = yield from word(source, _NAME)
        return bool(self._name) and (yield from sign_next(source, ">")) is not None

    def _call(self, source: Source, calls: Calls) -> Parts[None]:
        source.drop()
        yield calls.begin(self._name)
        whole = yield from shown(self._parameters(source), calls.arguments)
        if not whole:
            yield from unread(source, calls, source.sign(END), FUNCTION_END)

    def _parameters(self, source: Source) -> Pieces[bool]:
        lead = "{"
        while True:
            yield from spaces(source)
            sign = yield from sign_next(source, PARAMETER, FUNCTION_END, source.sign(END))
            if sign is not None and sign != PARAMETER:
                yield NO_ARGUMENTS if lead == "{" else "}"
                return True
            key = (yield from word(source, _NAME)) if sign else ""
            if not key or not (yield from sign_next(source, ">")):
                return False
            yield f"{lead}{json.dumps(key, ensure_ascii=False)}: "
            if not (yield from self._value(source, key)):
                return False
            lead = ", "

    def _value(self, source: Source, key: str) -> Pieces[bool]:
        types = parameter_types(self._tools, self._name, key)
        yield from sign_next(source, "\n")  # the layout's, and not the value's
        ends = ("\n" + PARAMETER_END, PARAMETER_END)
        if types != STRING:
            text: list[str] = []
            end = yield from collected(until(source, *ends), text)
            yield as_json("".join(text), types) if end else ""
            return end is not None
        yield '"'
        end = yield from _inside(until(source, *ends))
        yield '"' if end else ""
        return end is not None


def _inside(pieces: Pieces[str | None]) -> Pieces[str | None]:
    """The pieces as they stand in a JSON string."""
    while True:
        try:
            piece = next(pieces)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]  # a StopIteration has no type
        yield None if piece is None else inside(piece)
