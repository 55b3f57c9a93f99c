"""gpt-oss' format (harmony), in channels: `analysis` is reasoning, a message to a recipient a call, others content.

The prompt ends with `<|start|>assistant`, so an answer begins with a message's head: `<|channel|>analysis<|message|>…`.
"""

import re
from collections.abc import Mapping, Sequence

from deltaserve.server.answers.parts import AnswerParser, Content, Reasoning
from deltaserve.server.answers.tools.grammars.either import around
from deltaserve.server.answers.tools.grammars.lark import (
    ANY_TEXT,
    alternatives,
    arguments_rule,
    chosen,
    literal,
    mark,
)
from deltaserve.server.answers.tools.protocol import Tool, ToolChoice
from deltaserve.server.answers.tools.reading.json_calls import NO_ARGUMENTS, named_call
from deltaserve.server.answers.tools.reading.reader import Calls, Reader
from deltaserve.server.answers.tools.reading.source import Reading, Source
from deltaserve.server.answers.tools.reading.text import Parts, peek, shown, sign_next, text_until, until

START, CHANNEL, MESSAGE = "<|start|>", "<|channel|>", "<|message|>"
CONSTRAIN, END, CALL, RETURN = "<|constrain|>", "<|end|>", "<|call|>", "<|return|>"
RECIPIENT, NAMESPACE = " to=", "functions."
MOST_BEFORE = 4  # messages that a grammar lets stand before the last
_CHANNEL = re.compile(r"<\|channel\|>\s*(\w+)")
_RECIPIENT = re.compile(r"\bto=([^\s<]+)")


class Harmony:
    name = "harmony"
    reasons = True

    def matches(self, template: str) -> bool:
        return CHANNEL in template and MESSAGE in template and START in template

    def markers(self) -> tuple[str, ...]:
        return (START, CHANNEL, MESSAGE, CONSTRAIN, END, CALL, RETURN)

    def parser(self, _tools: Sequence[Tool], special: Mapping[str, int]) -> AnswerParser:
        return Reader(_read, Source(self.markers(), special))

    def grammar(
        self, tools: Sequence[Tool], choice: ToolChoice, _parallel: bool, special: Mapping[str, int]
    ) -> str | None:
        """A call ends the answer, so that there is one at most; reasoning, and text beside it, come before."""
        tools = chosen(tools, choice)
        if not tools:
            return None
        last = "(call | final)" if choice == "auto" else "call"
        return self._lark(last, "TEXT", tools, special)

    def held(self, form: str, tools: Sequence[Tool], _parallel: bool, special: Mapping[str, int]) -> str:
        """The form stands in the last channel; reasoning and text beside it may come before."""
        return around(form, self._lark("(call | final)" if tools else "final", "@answer_0", tools, special))

    def _lark(self, last: str, answer: str, tools: Sequence[Tool], special: Mapping[str, int]) -> str:
        channel, message = mark(CHANNEL, special), mark(MESSAGE, special)
        kind = f'{mark(CONSTRAIN, special)} "json" {message}'
        go_on = f'{mark(START, special)} "assistant"'
        text = f"TEXT {mark(END, special)}" if END in special else "text"
        lines = [
            "%llguidance {}",
            f"start: before{{0,{MOST_BEFORE}}} {last}",
            f'before: {channel} ("analysis" | "commentary") {message} {text} {go_on}',
            f'final: {channel} ("final" {message} | "final " {kind}) {answer}',
            f"TEXT: {ANY_TEXT}",
            f"text[suffix={literal(END)}]: TEXT",
        ]
        if tools:
            lines.append(alternatives(tools, lambda tool: f"{channel} {_head(tool)} {kind} {arguments_rule(tool)}"))
        return "\n".join(lines)


def _head(tool: Tool) -> str:
    return literal(f"commentary to={NAMESPACE}{tool.name} ")


def _read(source: Source, calls: Calls) -> Reading:
    start, channel, message = map(source.sign, (START, CHANNEL, MESSAGE))
    ends = tuple(map(source.sign, (END, CALL, RETURN, START)))
    begun = yield from sign_next(source, start, channel, RECIPIENT)
    if begun is None:  # no head: the prompt wrote it
        yield from shown(until(source, *ends), Content)
    head = source.spelled(begun or "")
    while (yield from peek(source)):
        rest, found = yield from text_until(source, message)
        if found:
            yield from _message(source, calls, head + rest, ends)
        head = ""


def _message(source: Source, calls: Calls, head: str, ends: tuple[str, ...]) -> Parts[None]:
    """The body of one message, up to its end. A call's arguments are all of it."""
    channel, recipient = _CHANNEL.search(head), _RECIPIENT.search(head)
    if not recipient:
        show = Reasoning if channel and channel[1] == "analysis" else Content
        yield from shown(until(source, *ends), show)
        return
    name = recipient[1].removeprefix(NAMESPACE)
    if (yield from peek(source)) == "{":
        yield from named_call(source, calls, name, *ends)
        return
    yield calls.begin(name)
    if (yield from sign_next(source, *ends)):
        yield calls.arguments(NO_ARGUMENTS)
    else:  # a program, for a tool that takes one
        yield from shown(until(source, *ends), calls.arguments)
