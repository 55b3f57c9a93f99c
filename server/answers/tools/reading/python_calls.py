"""A call as Python writes it, `name(key=value, …)`, its arguments turned into JSON."""

import json
import re

from deltaserve.server.answers.tools.reading.json_calls import NO_ARGUMENTS, Outcome
from deltaserve.server.answers.tools.reading.json_text import taken
from deltaserve.server.answers.tools.reading.loose import Loose, word
from deltaserve.server.answers.tools.reading.reader import Calls
from deltaserve.server.answers.tools.reading.source import Source
from deltaserve.server.answers.tools.reading.text import Parts, Pieces, Waiting, shown, sign_next, spaces

_NAME = re.compile(r"[A-Za-z_][\w.:/\-]*")
_KEYWORD = re.compile(r"[^\s=,()\[\]{}'\"]+")


def python_call(source: Source, calls: Calls, opening: str = "", wrapper: str = "") -> Parts[Outcome]:
    """One call with keywords alone: positions name no parameter, and what has them is no call.

    `opening` must stand before it, `wrapper` may.
    """
    source.keep()
    name, key = yield from _head(source, opening, wrapper)
    if name is None:
        source.put_back()
        return Outcome.NO_CALL
    source.drop()
    yield calls.begin(name)
    if key is None:
        yield calls.arguments(NO_ARGUMENTS)
        return Outcome.WHOLE
    whole = yield from shown(_arguments(source, key), calls.arguments)
    return Outcome.WHOLE if whole else Outcome.BROKEN


def _head(source: Source, opening: str, wrapper: str) -> Waiting[tuple[str | None, str | None]]:
    """The name and the first keyword, which is None where the call is empty; no name where this is no call."""
    yield from spaces(source)
    if opening and not (yield from taken(source, opening)):
        return None, None
    yield from spaces(source)
    if wrapper:
        yield from sign_next(source, wrapper)
    name = yield from word(source, _NAME)
    if not name or not (yield from taken(source, "(")):
        return None, None
    yield from spaces(source)
    if (yield from taken(source, ")")):
        return name, None
    key = yield from _keyword(source)
    return (name, key) if key else (None, None)


def _keyword(source: Source) -> Waiting[str]:
    key = yield from word(source, _KEYWORD)
    yield from spaces(source)
    if not key or not (yield from taken(source, "=")):
        return ""
    yield from spaces(source)
    return key


def _arguments(source: Source, key: str) -> Pieces[bool]:
    loose, lead = Loose(source), "{"
    while key:
        yield f"{lead}{json.dumps(key)}: "
        if not (yield from loose.value()):
            return False
        more = yield from loose.next_item(")", first=False)
        if more is False:
            yield "}"
            return True
        lead, key = ", ", ((yield from _keyword(source)) if more else "")
    return False
