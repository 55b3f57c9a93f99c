"""A call that is one JSON object: its name, its arguments, and what else the model writes in it."""

from enum import Enum, auto

from deltaserve.server.answers.tools.reading.json_text import string_text, taken, unquoted, value
from deltaserve.server.answers.tools.reading.reader import Calls
from deltaserve.server.answers.tools.reading.source import Source
from deltaserve.server.answers.tools.reading.text import (
    Parts,
    Pieces,
    Waiting,
    collected,
    peek,
    shown,
    sign_next,
    spaces,
    until,
)

NAME, KIND = "name", "type"
ARGUMENTS = ("arguments", "parameters")
NO_ARGUMENTS = "{}"


class Outcome(Enum):
    """How the reading of a call ended."""

    WHOLE = auto()
    BROKEN = auto()  # it began, and does not go on as JSON, or the text ended
    NO_CALL = auto()  # nothing of it was shown or taken


def json_call(source: Source, calls: Calls, opening: str = "", marked: bool = True) -> Parts[Outcome]:
    """One object `{"name": …, "arguments": {…}}` behind `opening`; other keys are left out.

    Behind a mark its keys may come in any order. Without one it may be a text in JSON: it is a call only where
    arguments follow the name, and no other key comes before them.
    """
    source.keep()
    yield from spaces(source)
    if opening and (yield from taken(source, opening)):
        yield from spaces(source)
    call = _Call(source, calls, marked)
    whole = yield from call.read()
    if not call.begun:
        source.put_back()
        return Outcome.NO_CALL
    return Outcome.WHOLE if whole else Outcome.BROKEN


def arguments(source: Source) -> Pieces[bool]:
    """The arguments' text; whether it is whole. A string that holds JSON, as OpenAI's are, gives what it says."""
    if (yield from peek(source)) != '"':
        return (yield from value(source))
    said: list[str] = []
    whole = yield from collected(string_text(source), said)
    yield unquoted("".join(said))
    return whole


class _Call:
    def __init__(self, source: Source, calls: Calls, marked: bool) -> None:
        self._source, self._calls, self._marked = source, calls, marked
        self.begun = False
        self._name: str | None = None
        self._before_name: list[str] | None = None
        self._with_arguments = False

    def read(self) -> Parts[bool]:
        """The object; whether it is whole."""
        if not (yield from taken(self._source, "{")):
            return False
        while (yield from self._member()):
            yield from spaces(self._source)
            if (yield from taken(self._source, "}")):
                if self.begun and not self._with_arguments:
                    yield self._calls.arguments(NO_ARGUMENTS)
                return True
            if not (yield from taken(self._source, ",")):
                return False
        return False

    def _member(self) -> Parts[bool]:
        yield from spaces(self._source)
        key = yield from whole_string(self._source)
        yield from spaces(self._source)
        if key is None or not (yield from taken(self._source, ":")):
            return False
        yield from spaces(self._source)
        if key == NAME and self._name is None:
            return (yield from self._named())
        if key in ARGUMENTS and not self._with_arguments:
            return (yield from self._arguments())
        if not self.begun and not self._marked and key != KIND:
            return False
        return (yield from collected(value(self._source), []))

    def _named(self) -> Parts[bool]:
        self._name = yield from whole_string(self._source)
        if self._name and (self._marked or self._before_name is not None):
            yield from self._begin()
        return bool(self._name)

    def _begin(self) -> Parts[None]:
        self.begun = True
        self._source.drop()
        yield self._calls.begin(self._name or "")
        if self._before_name is not None:
            yield self._calls.arguments("".join(self._before_name))

    def _arguments(self) -> Parts[bool]:
        self._with_arguments = True
        if self._name and not self.begun:
            yield from self._begin()
        if self.begun:
            return (yield from shown(arguments(self._source), self._calls.arguments))
        self._before_name = []
        return (yield from collected(arguments(self._source), self._before_name))


def whole_string(source: Source) -> Waiting[str | None]:
    """What a string says; None where there is none, or the text ended in it."""
    if (yield from peek(source)) != '"':
        return None
    pieces: list[str] = []
    whole = yield from collected(string_text(source), pieces)
    return unquoted("".join(pieces)) if whole else None


def named_call(source: Source, calls: Calls, name: str, *ends: str) -> Parts[None]:
    """A call whose name stands before its arguments, which end with one of these signs, or by themselves."""
    yield calls.begin(name)
    yield from spaces(source)
    if ends and (yield from sign_next(source, *ends)):
        yield calls.arguments(NO_ARGUMENTS)
        return
    whole = yield from shown(arguments(source), calls.arguments)
    if whole and ends:
        yield from spaces(source)
        yield from sign_next(source, *ends)
    elif ends:
        yield from shown(until(source, *ends), calls.arguments)
