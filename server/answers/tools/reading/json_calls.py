"""A call that is one JSON object: its name, its arguments, and what else the model writes in it."""

from enum import Enum, auto

from deltaserve.server.answers.tools.reading.json_text import string_text, taken, unquoted, value
from deltaserve.server.answers.tools.reading.reader import Calls
from deltaserve.server.answers.tools.reading.source import Source
from deltaserve.server.answers.tools.reading.text import Parts, Pieces, Waiting, collected, peek, shown, spaces

NAMES = ("name",)
ARGUMENTS = ("arguments", "parameters")
NO_ARGUMENTS = "{}"


class Outcome(Enum):
    """How the reading of a call ended."""

    WHOLE = auto()
    BROKEN = auto()  # it began, and does not go on as JSON, or the text ended
    NO_CALL = auto()  # nothing of it was shown or taken


def json_call(source: Source, calls: Calls) -> Parts[Outcome]:
    """One object `{"name": …, "arguments": {…}}`; its keys may come in any order, and others are left out."""
    source.keep()
    yield from spaces(source)
    call = _Call(source, calls)
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
    def __init__(self, source: Source, calls: Calls) -> None:
        self._source, self._calls = source, calls
        self.begun = False
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
        if key in NAMES and not self.begun:
            return (yield from self._name())
        if key in ARGUMENTS and not self._with_arguments:
            return (yield from self._arguments())
        return (yield from collected(value(self._source), []))

    def _name(self) -> Parts[bool]:
        name = yield from whole_string(self._source)
        if not name:
            return False
        self.begun = True
        self._source.drop()
        yield self._calls.begin(name)
        if self._before_name is not None:
            yield self._calls.arguments("".join(self._before_name))
        return True

    def _arguments(self) -> Parts[bool]:
        self._with_arguments = True
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
