"""One choice's pieces as parts: the only place where pieces are parsed."""

from dataclasses import dataclass, field
from typing import Literal

from deltaserve.server.answers.parts import AnswerParser, Content, Part
from deltaserve.server.decoding.stream import Piece

FinishReason = Literal["stop", "length", "tool_calls"]


@dataclass(slots=True)
class Reader:
    """Reads one choice. Without a parser its text is its content."""

    parser: AnswerParser | None = None
    finish_reason: FinishReason | None = field(init=False, default=None)
    stop_reason: int | str | None = field(init=False, default=None)
    tokens: int = field(init=False, default=0)
    reasoning_tokens: int = field(init=False, default=0)  # of `tokens`

    def read(self, piece: Piece) -> list[Part]:
        """What became certain with this piece; with the last one, everything."""
        self.tokens += len(piece.steps)
        self.finish_reason, self.stop_reason = piece.finish_reason, piece.stop_reason
        return [Content(piece.text)] if piece.text else []
