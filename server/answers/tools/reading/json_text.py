"""JSON as a model writes it, a piece at a time. What is no JSON is left where it stands."""

import json
import re

from deltaserve.server.answers.tools.reading.source import Source
from deltaserve.server.answers.tools.reading.text import Pieces, Waiting, peek

_STRING = re.compile(r'(?:[^"\\]|\\.)+', re.DOTALL)  # a token in it is what its letters say
_PLAIN = re.compile(r"[\s,:\w+\-.]+")  # what may stand between brackets and strings
_SCALAR = re.compile(r"[\w+\-.]+")
_WHOLE_ESCAPES = re.compile(r'(?:[^"\\]|\\(?:u[0-9a-fA-F]{4}|["\\/bfnrt]))*')


def value(source: Source) -> Pieces[bool]:
    """One value as it is written. Returns whether it is whole: not where the text ends or is no JSON before."""
    first = yield from peek(source)
    if first == '"':
        return (yield from string_text(source))
    if first in ("{", "["):
        return (yield from _nested(source))
    return (yield from _run(source, _SCALAR))


def _nested(source: Source) -> Pieces[bool]:
    depth = 0
    while True:
        character = yield from peek(source)
        if character == '"':
            if not (yield from string_text(source)):
                return False
        elif character and character in "{}[]":
            yield source.take(1)
            depth += 1 if character in "{[" else -1
            if not depth:
                return True
        elif not (yield from _run(source, _PLAIN)):
            return False


def _run(source: Source, allowed: re.Pattern[str]) -> Pieces[bool]:
    """All that goes on with these characters; whether there were any, and something stands behind them."""
    some = False
    while found := allowed.match(source.text):
        yield source.take(found.end())
        some = True
        yield from peek(source)
    return some and bool(source.text)


def string_text(source: Source) -> Pieces[bool]:
    """A string as it is written, with its quotes; whether it is whole."""
    yield source.take(1)
    while True:
        if found := _STRING.match(source.text):
            yield source.take(found.end())
        if source.text.startswith('"'):
            yield source.take(1)
            return True
        if source.closed or source.text not in ("", "\\"):
            return False
        yield None


def unquoted(text: str) -> str:
    """What a string says; of one that has no end, what stands there so far."""
    body = _WHOLE_ESCAPES.match(text[1:])
    assert body is not None  # it may be empty
    said: str = json.loads(f'"{body[0]}"', strict=False)
    return said.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # half a pair is no character


def taken(source: Source, expected: str) -> Waiting[bool]:
    """Takes this character, where it is the next."""
    if (yield from peek(source)) != expected:
        return False
    source.take(1)
    return True
