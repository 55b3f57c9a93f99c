"""FunctionGemma's and Gemma 4's format: `call:name{key:value,…}` between tokens, strings between one of their own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from deltaserve.server.answers.parts import AnswerParser
from deltaserve.server.answers.tools.grammars.bare import bare_object
from deltaserve.server.answers.tools.grammars.lark import alternatives, chosen, literal, mark
from deltaserve.server.answers.tools.grammars.tagged import Tagged
from deltaserve.server.answers.tools.grammars.written import Rules
from deltaserve.server.answers.tools.protocol import Tool, ToolChoice
from deltaserve.server.answers.tools.reading.loose import NAME, Loose, word
from deltaserve.server.answers.tools.reading.reader import Calls, Reader
from deltaserve.server.answers.tools.reading.source import Reading, Source
from deltaserve.server.answers.tools.reading.text import (
    Parts,
    Waiting,
    content,
    no_call,
    shown,
    sign_next,
    spaces,
    unread,
)

CALL = "call:"


@dataclass(frozen=True, slots=True)
class GemmaCalls:
    name: str
    begin: str
    end: str
    quote: str

    @property
    def reasons(self) -> bool:
        return False

    def matches(self, template: str) -> bool:
        return self.begin in template

    def markers(self) -> tuple[str, ...]:
        return (self.begin, self.end, self.quote)

    def parser(self, _tools: Sequence[Tool], special: Mapping[str, int]) -> AnswerParser:
        return Reader(self._read, Source(self.markers(), special))

    def grammar(
        self, tools: Sequence[Tool], choice: ToolChoice, parallel: bool, special: Mapping[str, int]
    ) -> str | None:
        tools = chosen(tools, choice)
        if not tools:
            return None
        rules, end = Rules(), mark(self.end, special)
        call = alternatives(
            tools, lambda tool: f"{literal(CALL + tool.name)} {bare_object(rules, tool, self.quote, special)} {end}"
        )
        return Tagged(self.begin, [call, *rules.lines]).grammar(choice, parallel, special)

    def _read(self, source: Source, calls: Calls) -> Reading:
        while (yield from content(source, calls, source.sign(self.begin))):
            source.keep()
            name = yield from _name(source)
            if not name:
                source.put_back()
                yield from no_call(source, self.begin)
                continue
            source.drop()
            yield calls.begin(name)
            yield from self._arguments(source, calls)

    def _arguments(self, source: Source, calls: Calls) -> Parts[None]:
        loose = Loose(source, (source.sign(self.quote), '"'), escapes=False)
        whole = yield from shown(loose.value(), calls.arguments)
        if whole:
            yield from spaces(source)
            yield from sign_next(source, source.sign(self.end))
        else:
            yield from unread(source, calls, source.sign(self.end))


def _name(source: Source) -> Waiting[str]:
    """The name that stands before arguments; empty where this is no call."""
    yield from spaces(source)
    if not (yield from sign_next(source, CALL)):
        return ""
    name = yield from word(source, NAME)
    return name if source.text.startswith("{") else ""


FUNCTION_GEMMA = GemmaCalls("function_gemma", "<start_function_call>", "<end_function_call>", "<escape>")
GEMMA_4 = GemmaCalls("gemma4", "<|tool_call>", "<tool_call|>", '<|"|>')
