"""One choice's pieces as parts: the only place where pieces are parsed."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from deltaserve.server.answers.parts import AnswerParser, CallArguments, CallBegun, Content, Part, Reasoning
from deltaserve.server.decoding.stream import Piece

FinishReason = Literal["stop", "length", "tool_calls"]


@dataclass(slots=True)
class ChoiceReader:
    """Reads one choice. Without a parser its text is its content."""

    parser: AnswerParser | None = None
    finish_reason: FinishReason | None = field(init=False, default=None)
    stop_reason: int | str | None = field(init=False, default=None)
    reasoning_tokens: int = field(init=False, default=0)
    _untold: int = field(init=False, default=0)  # tokens that belong to the part that comes next
    _last: Part | None = field(init=False, default=None)

    def read(self, piece: Piece) -> list[Part]:
        """What became certain with this piece; with the last one, everything. Neighbours of one kind are one part."""
        self.finish_reason, self.stop_reason = piece.finish_reason, piece.stop_reason
        if self.parser is None:
            return [Content(piece.text)] if piece.text else []
        parts = merged(self._parsed(self.parser, piece))
        self._count(len(piece.steps), parts)
        # What ends an answer early ends it, whatever it called before.
        if piece.finish_reason == "stop" and piece.stop_reason is None and self.parser.called:
            self.finish_reason = "tool_calls"
        return parts

    def _parsed(self, parser: AnswerParser, piece: Piece) -> list[Part]:
        parts = [part for segment in piece.segments for part in parser.push(segment)]
        return parts if piece.finish_reason is None else [*parts, *parser.finish()]

    def _count(self, tokens: int, parts: list[Part]) -> None:
        """A token without a part of its own, as a mark is, belongs to the part behind it; the last ones to the last."""
        self._untold += tokens
        self._last = parts[-1] if parts else self._last
        if parts or self.finish_reason is not None:
            self.reasoning_tokens += self._untold if isinstance(self._last, Reasoning) else 0
            self._untold = 0


def merged(parts: Sequence[Part]) -> list[Part]:
    """The same with neighbours of one kind joined, and without empty ones."""
    if len(parts) < 2:  # nearly always: a token's text is one part
        return [part for part in parts if isinstance(part, CallBegun) or part.text]
    joined: list[Part] = []
    for part in parts:
        last = joined[-1] if joined else None
        if isinstance(part, CallBegun):
            joined.append(part)
        elif isinstance(part, Content) and isinstance(last, Content):
            joined[-1] = Content(last.text + part.text)
        elif isinstance(part, Reasoning) and isinstance(last, Reasoning):
            joined[-1] = Reasoning(last.text + part.text)
        elif isinstance(part, CallArguments) and isinstance(last, CallArguments) and part.index == last.index:
            joined[-1] = CallArguments(part.index, last.text + part.text)
        elif part.text:
            joined.append(part)
    return joined
