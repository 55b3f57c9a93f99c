"""The parser that all formats share: what differs is one generator, written as if all text were there."""

import secrets
from collections.abc import Callable

from deltaserve.server.answers.parts import CallArguments, CallBegun, Content, Part, Reasoning, Segment
from deltaserve.server.answers.tools.reading.source import Reading, Source


def call_id() -> str:
    """An id as OpenAI's are."""
    return f"call_{secrets.token_hex(12)}"


class Calls:
    """Counts the calls of one answer."""

    def __init__(self, new_id: Callable[[], str]) -> None:
        self._new_id = new_id
        self.count = 0

    def begin(self, name: str) -> CallBegun:
        self.count += 1
        return CallBegun(self.count - 1, self._new_id(), name)

    def arguments(self, text: str) -> CallArguments:
        """A piece for the call that began last."""
        return CallArguments(self.count - 1, text)


class Reader:
    """An `AnswerParser` that runs `read` as far as the text goes."""

    def __init__(
        self, read: Callable[[Source, Calls], Reading], source: Source, new_id: Callable[[], str] = call_id
    ) -> None:
        self._source = source
        self._calls = Calls(new_id)
        self._reading = read(source, self._calls)

    @property
    def called(self) -> bool:
        return self._calls.count > 0

    def push(self, segment: Segment) -> list[Part]:
        self._source.push(segment)
        return self._run()

    def finish(self) -> list[Part]:
        self._source.closed = True
        return self._run()

    def _run(self) -> list[Part]:
        parts: list[Part] = []
        for part in self._reading:
            if part is None:
                break
            _append(parts, part)
        return parts


def _append(parts: list[Part], part: Part) -> None:
    """Joins pieces of the same kind; pieces without text are none."""
    if isinstance(part, CallBegun):
        parts.append(part)
    elif parts and _goes_on(parts[-1], part):
        parts[-1] = _joined(parts[-1], part)
    elif part.text:
        parts.append(part)


def _goes_on(last: Part, part: Part) -> bool:
    if isinstance(last, CallArguments) and isinstance(part, CallArguments):
        return last.index == part.index
    return type(last) is type(part)


def _joined(last: Part, part: Part) -> Part:
    if isinstance(last, CallArguments) and isinstance(part, CallArguments):
        return CallArguments(last.index, last.text + part.text)
    if isinstance(last, Reasoning) and isinstance(part, Reasoning):
        return Reasoning(last.text + part.text)
    assert isinstance(last, Content) and isinstance(part, Content)  # `_goes_on` said so
    return Content(last.text + part.text)
