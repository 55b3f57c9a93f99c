"""Llama 3's calls in JSON: `{"name": …, "parameters": {…}}` alone, or some with `; ` between them.

No mark is needed before them, though `<|python_tag|>` may stand there.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from deltaserve.server.answers.parts import AnswerParser
from deltaserve.server.answers.tools.grammars.either import either, schema_of
from deltaserve.server.answers.tools.grammars.lark import (
    alternatives,
    arguments_rule,
    arguments_schema,
    chosen,
    embedded,
    kept,
    literal,
    several,
)
from deltaserve.server.answers.tools.grammars.unmarked import unmarked
from deltaserve.server.answers.tools.protocol import Tool, ToolChoice
from deltaserve.server.answers.tools.reading.json_calls import Outcome, json_call
from deltaserve.server.answers.tools.reading.reader import Calls, Reader
from deltaserve.server.answers.tools.reading.source import Reading, Source
from deltaserve.server.answers.tools.reading.text import (
    Parts,
    content,
    no_call,
    peek,
    shown,
    sign_next,
    spaces,
    until,
)

TAG = "<|python_tag|>"
# What an answer that is text does not begin with.
_CALL_BEGUN = r'\{\s*"(name"|type"\s*:\s*"function")'


class LlamaJson:
    name = "llama3_json"
    reasons = False

    def matches(self, template: str) -> bool:
        return "<|start_header_id|>" in template and '"parameters": ' in template

    def markers(self) -> tuple[str, ...]:
        return (TAG,)

    def parser(self, _tools: Sequence[Tool], special: Mapping[str, int]) -> AnswerParser:
        return Reader(_read, Source(self.markers(), special))

    def grammar(
        self, tools: Sequence[Tool], choice: ToolChoice, parallel: bool, special: Mapping[str, int]
    ) -> str | None:
        tools = chosen(tools, choice)
        if not tools:
            return None
        more = f" ({literal('; ')} call)*" if several(choice, parallel) else ""
        call = alternatives(tools, _object)
        return unmarked(f"calls: call{more}", [call], _CALL_BEGUN, TAG, choice, special)

    def held(self, form: str, tools: Sequence[Tool], parallel: bool, special: Mapping[str, int]) -> str:
        """A form in JSON and a call begin alike: both are whole objects of one grammar, and no text stands before."""
        schema = schema_of(form)
        if not tools or schema is None:
            calls = self.grammar(tools, "required", parallel, special)
            return form if calls is None else either(form, calls)
        more = f" ({literal('; ')} call)*" if parallel else ""
        start = f"start: form | call{more}"
        return "\n".join(["%llguidance {}", start, f"form: %json {json.dumps(schema)}", alternatives(tools, _whole)])


def _object(tool: Tool) -> str:
    head = literal(f'{{"name": {json.dumps(tool.name)}, "parameters": ')
    return f"{head} {arguments_rule(tool)} {literal('}')}"


def _whole(tool: Tool) -> str:
    """The same as one object of JSON, with the definitions of its parameters as its own."""
    parameters = dict(kept(arguments_schema(tool), strict=tool.strict))
    named: dict[str, Any] = {key: parameters.pop(key) for key in ("$defs", "definitions") if key in parameters}
    properties = {"name": {"const": tool.name}, "parameters": parameters}
    whole = {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}
    return embedded({**whole, **named}, strict=tool.strict)


def _read(source: Source, calls: Calls) -> Reading:
    tag = source.sign(TAG)
    source.keep()
    yield from spaces(source)
    marked = (yield from sign_next(source, tag)) is not None
    if not marked:
        source.put_back()
    while True:
        yield from _calls(source, calls, marked)
        if not (yield from content(source, calls, tag)):
            return
        marked = True


def _calls(source: Source, calls: Calls, marked: bool) -> Parts[None]:
    outcome = yield from json_call(source, calls, marked=marked)
    if outcome is Outcome.NO_CALL and marked:
        yield from no_call(source, TAG)
    while outcome is Outcome.WHOLE:
        yield from spaces(source)
        if not (yield from sign_next(source, ";", ",", source.sign(TAG))) and (yield from peek(source)) != "{":
            return
        outcome = yield from json_call(source, calls, marked=False)
    if outcome is Outcome.BROKEN:
        yield from shown(until(source, source.sign(TAG)), calls.arguments)
