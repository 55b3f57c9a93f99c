"""What an answer is made of where a parser reads it: text, and the added tokens in it by their ids."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Special:
    """An added token that a parser asked to see by its id; `text` is how the tokenizer writes it."""

    token_id: int
    text: str


Segment = str | Special


class _Mark(NamedTuple):
    """Where a token stands among all characters; one without text ends where it begins."""

    start: int
    end: int
    special: Special


class Segmenter:
    """Cuts an answer's text at the tokens in it that a parser wants to see.

    Text comes twice: as it was decoded, when each token's place is known, and as it may be shown, when stop strings
    have let it go. A token is shown with the text before it, and never behind a stop string.
    """

    def __init__(self, wanted: Mapping[int, str]) -> None:
        self._wanted = wanted
        self._marks: deque[_Mark] = deque()  # not shown yet
        self._decoded = 0  # characters
        self._shown = 0  # characters: their text was given, or was a token's own
        self._held = ""  # may be shown, but belongs to a token whose text is not all there

    def decoded(self, token_id: int, text: str) -> None:
        """The token's text, with text before it that became certain now."""
        name = self._wanted.get(token_id)
        if name is not None:
            place = text.rfind(name)
            start, size = (len(text), 0) if place < 0 else (place, len(name))
            start += self._decoded
            self._marks.append(_Mark(start, start + size, Special(token_id, name)))
        self._decoded += len(text)

    def cut(self, text: str, *, last: bool) -> tuple[Segment, ...]:
        """The text that may be shown now, in segments. With the `last` one nothing is held back."""
        self._held += text
        segments: list[Segment] = []
        while self._marks and self._marks[0].end <= self._shown + len(self._held):
            mark = self._marks.popleft()
            segments += [self._take(mark.start), mark.special]
            self._take(mark.end)
        begun = self._marks[0].start if self._marks and not last else self._shown + len(self._held)
        segments.append(self._take(begun))
        return tuple(segment for segment in segments if segment != "")

    def _take(self, end: int) -> str:
        """What is held, up to the `end`-th character of the answer."""
        size = max(end - self._shown, 0)
        taken, self._held = self._held[:size], self._held[size:]
        self._shown += len(taken)
        return taken
