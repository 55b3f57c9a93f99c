"""Values that are nearly JSON, as Python and Gemma write them, turned into JSON as they arrive."""

import json
import math
import re
from typing import Final

from deltaserve.server.answers.tools.reading.json_text import taken
from deltaserve.server.answers.tools.reading.source import Source
from deltaserve.server.answers.tools.reading.text import Pieces, Waiting, peek, sign_next, spaces

PYTHON_QUOTES: Final = ('"', "'")
NAME: Final = re.compile(r"[\w.:/\-]+")  # of a tool
_DEEPEST: Final = 64  # brackets in brackets; what is deeper is no value
_WORD = re.compile("[^\\s,:=\"'()\\[\\]{}\udc00-\udcff]+")
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?")
_NAMED: Final = {"True": "true", "False": "false", "None": "null", "true": "true", "false": "false", "null": "null"}
_ESCAPE = re.compile(r"\\(?:x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[^xuU])", re.DOTALL)
_ESCAPE_BEGUN = re.compile(r"\\(?:x[0-9a-fA-F]?|u[0-9a-fA-F]{0,3}|U[0-9a-fA-F]{0,7})?")
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "0": "\0", "\n": ""} | {
    c: c for c in "\\'\"/"
}


def inside(text: str) -> str:
    """The text as it stands in a JSON string."""
    return json.dumps(text, ensure_ascii=False)[1:-1]


def word(source: Source, pattern: re.Pattern[str] = _WORD) -> Waiting[str]:
    """Takes a word; empty where there is none, or where the text ends in it."""
    while True:
        found = pattern.match(source.text)
        if (found and found.end() < len(source.text)) or (not found and source.text):
            return source.take(found.end()) if found else ""
        if source.closed:
            return ""
        yield None


def word_as_json(text: str) -> str:
    """A constant or a number; any other word is a string."""
    if text in _NAMED:
        return _NAMED[text]
    if _NUMBER.fullmatch(text):
        return text
    return _python_number(text) or json.dumps(text, ensure_ascii=False)


def _python_number(text: str) -> str | None:
    """A number as Python alone writes it, in JSON; None for any other word, and for what is too large."""
    for read in (lambda: int(text, 0), lambda: float(text)):
        try:
            number = read()
            return json.dumps(number) if math.isfinite(number) else None
        except (ValueError, OverflowError):
            continue
    return None


class Loose:
    """Reads values from a source. `quotes`: signs that a string stands between; `escapes`: a backslash means more."""

    def __init__(self, source: Source, quotes: tuple[str, ...] = PYTHON_QUOTES, escapes: bool = True) -> None:
        self._source, self._quotes, self._escapes = source, quotes, escapes

    def value(self, depth: int = 0) -> Pieces[bool]:
        """The value as JSON; whether it is whole."""
        if (yield from peek(self._source)) in ("{", "[", "(") and depth < _DEEPEST:
            return (yield from self._nested(depth))
        if quote := (yield from sign_next(self._source, *self._quotes)):
            return (yield from self._string(quote))
        found = yield from word(self._source)
        if found:
            yield word_as_json(found)
        return bool(found)

    def _nested(self, depth: int) -> Pieces[bool]:
        opening = self._source.take(1)
        yield "{" if opening == "{" else "["
        first = True
        while True:
            more = yield from self.next_item({"{": "}", "[": "]", "(": ")"}[opening], first)
            if more is not True:
                yield ("}" if opening == "{" else "]") if more is False else ""
                return more is False
            if not first:
                yield ", "
            first = False
            if opening == "{" and not (yield from self._key()):
                return False
            if not (yield from self.value(depth + 1)):
                return False

    def next_item(self, closing: str, first: bool) -> Waiting[bool | None]:
        """Whether an item follows in this list, or its end, which is taken; None: neither."""
        yield from spaces(self._source)
        comma = not first and (yield from taken(self._source, ","))
        yield from spaces(self._source)
        if (yield from taken(self._source, closing)):
            return False
        return True if (first or comma) and self._source.text else None

    def _key(self) -> Pieces[bool]:
        if quote := (yield from sign_next(self._source, *self._quotes)):
            if not (yield from self._string(quote)):
                return False
        else:
            key = yield from word(self._source)
            if not key:
                return False
            yield json.dumps(key, ensure_ascii=False)
        yield from spaces(self._source)
        if not (yield from taken(self._source, ":")):
            return False
        yield ": "
        yield from spaces(self._source)
        return True

    def _string(self, quote: str) -> Pieces[bool]:
        yield '"'
        stops = re.compile("|".join(map(re.escape, (quote, "\\") if self._escapes else (quote,))))
        while True:
            found = stops.search(self._source.text)
            end = found.start() if found else len(self._source.text) - self._source.held(quote)
            yield inside(self._source.take(end))
            if found and found[0] == quote:
                self._source.take(len(quote))
                yield '"'
                return True
            if found and (escape := self._escape()) is not None:
                yield escape
            elif self._source.closed:
                return False
            else:
                yield None

    def _escape(self) -> str | None:
        """The escape that the text begins with, as JSON; None while it is not whole."""
        if not (found := _ESCAPE.match(self._source.text)):
            if _ESCAPE_BEGUN.fullmatch(self._source.text):
                return None
            return inside(self._source.take(1))
        escape = self._source.take(found.end())
        if escape[1] == "u":
            return escape  # JSON's own
        if escape[1] in "xU":
            code = int(escape[2:], 16)
            return inside(chr(code) if code <= 0x10FFFF and not 0xD800 <= code < 0xE000 else "\ufffd")
        return inside(_ESCAPES.get(escape[1], escape))
