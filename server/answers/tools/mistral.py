"""Mistral's formats, behind `[TOOL_CALLS]`: a list of objects, or since v11 `name[ARGS]{…}`, a mark for each call."""

import json
import secrets
import string
from collections.abc import Mapping, Sequence
from typing import Final

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
from deltaserve.server.answers.tools.reading.json_calls import Outcome, json_call, named_call
from deltaserve.server.answers.tools.reading.json_text import taken
from deltaserve.server.answers.tools.reading.loose import NAME, word
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
    text_until,
    until,
)

BEGIN, ARGS, CALL_ID = "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]"
_ID_LETTERS: Final = string.ascii_letters + string.digits
_ID_LENGTH: Final = 9  # Mistral's templates refuse others


def short_id() -> str:
    """An id that Mistral's templates take."""
    return "".join(secrets.choice(_ID_LETTERS) for _ in range(_ID_LENGTH))


class Mistral:
    """Both forms are read whichever is expected; `named`: the newer one is written."""

    reasons = False

    def __init__(self, name: str, named: bool) -> None:
        self.name, self._named = name, named

    def matches(self, template: str) -> bool:
        return BEGIN in template and (ARGS in template) is self._named

    def markers(self) -> tuple[str, ...]:
        return (BEGIN, ARGS, CALL_ID)

    def parser(self, _tools: Sequence[Tool], special: Mapping[str, int]) -> AnswerParser:
        return Reader(_read, Source(self.markers(), special), short_id)

    def grammar(
        self, tools: Sequence[Tool], choice: ToolChoice, parallel: bool, special: Mapping[str, int]
    ) -> str | None:
        tools = chosen(tools, choice)
        if not tools:
            return None
        if self._named:
            # Some of these models write an id of their own behind the name.
            own_id = f"({mark(CALL_ID, special)} /[a-zA-Z0-9]{{9}}/)?" if CALL_ID in special else ""
            args = f"{own_id} {mark(ARGS, special)}"
            call = alternatives(tools, lambda tool: f"{literal(tool.name)} {args} {_value(tool)}")
            return Tagged(BEGIN, [call]).grammar(choice, parallel, special)
        more = f"({literal(', ')} one)*" if several(choice, parallel) else ""
        calls = f'call: " "? "[" one {more} "]"'
        one = alternatives(tools, lambda tool: f"{_object(tool)} {_value(tool)} {literal('}')}", rule="one")
        return Tagged(BEGIN, [calls, one]).grammar(choice, False, special)


def _value(tool: Tool) -> str:
    return arguments_rule(tool)


def _object(tool: Tool) -> str:
    return literal(f'{{"name": {json.dumps(tool.name)}, "arguments": ')


def _read(source: Source, calls: Calls) -> Reading:
    begin = source.sign(BEGIN)
    while (yield from content(source, calls, begin)):
        source.keep()
        yield from spaces(source)
        if name := (yield from _name(source)):
            source.drop()
            yield from named_call(source, calls, name)
            continue
        source.put_back()
        yield from _list(source, calls)


def _name(source: Source) -> Waiting[str]:
    """The name before arguments; empty where something else follows."""
    name = yield from word(source, NAME)
    sign = yield from sign_next(source, source.sign(ARGS), source.sign(CALL_ID))
    if sign == source.sign(CALL_ID):
        _, sign = yield from text_until(source, source.sign(ARGS))
    return name if sign or source.text.startswith("{") else ""


def _list(source: Source, calls: Calls) -> Parts[None]:
    outcome = yield from json_call(source, calls, opening="[")
    if outcome is Outcome.NO_CALL:
        yield from no_call(source, BEGIN)
        return
    while outcome is Outcome.WHOLE:
        yield from spaces(source)
        if not (yield from taken(source, ",")):
            yield from taken(source, "]")
            return
        outcome = yield from json_call(source, calls)
    yield from shown(until(source, source.sign(BEGIN)), calls.arguments)
