"""Answers as parsers read them: cut anywhere, with marks as tokens or as letters."""

import re
from collections.abc import Iterable, Mapping, Sequence

from deltaserve.server.answers.parts import (
    AnswerParser,
    CallArguments,
    CallBegun,
    Content,
    Part,
    Reasoning,
    Segment,
    Special,
)
from deltaserve.server.answers.tools.protocol import Tool, ToolFormat


def tokens_of(form: ToolFormat) -> dict[str, int]:
    """All of its markers, as a tokenizer that has them."""
    return {marker: 1000 + n for n, marker in enumerate(form.markers())}


def segments(text: str, special: Mapping[str, int]) -> list[Segment]:
    """The text with its marks as tokens; its letters one by one."""
    if not special:
        return list(text)
    marks = "|".join(re.escape(marker) for marker in sorted(special, key=len, reverse=True))
    pieces = re.split(f"({marks})", text)
    return [one for piece in pieces for one in ([Special(special[piece], piece)] if piece in special else piece)]


def read(parser: AnswerParser, pieces: Iterable[Segment]) -> list[Part]:
    """All parts, pieces of the same joined, ids left out."""
    parts = [part for piece in pieces for part in parser.push(piece)] + parser.finish()
    return joined(parts)


def joined(parts: Iterable[Part]) -> list[Part]:
    whole: list[Part] = []
    for part in parts:
        last = whole[-1] if whole else None
        if isinstance(part, CallBegun):
            whole.append(CallBegun(part.index, "", part.name))
        elif isinstance(part, CallArguments) and isinstance(last, CallArguments) and last.index == part.index:
            whole[-1] = CallArguments(part.index, last.text + part.text)
        elif isinstance(part, Content) and isinstance(last, Content):
            whole[-1] = Content(last.text + part.text)
        elif isinstance(part, Reasoning) and isinstance(last, Reasoning):
            whole[-1] = Reasoning(last.text + part.text)
        else:
            whole.append(part)
    return whole


def cuts(pieces: Sequence[Segment]) -> Iterable[list[Segment]]:
    """The same answer in two segments, cut at every point, and one by one. Tokens stay as they are."""
    for cut in range(len(pieces) + 1):
        yield [*_together(pieces[:cut]), *_together(pieces[cut:])]
    yield list(pieces)


def _together(pieces: Sequence[Segment]) -> list[Segment]:
    whole: list[Segment] = []
    for piece in pieces:
        if isinstance(piece, str) and whole and isinstance(whole[-1], str):
            whole[-1] += piece
        else:
            whole.append(piece)
    return whole


def readings(form: ToolFormat, text: str, tools: Sequence[Tool] = ()) -> list[list[Part]]:
    """What each way to cut the text gives, each only once: with marks as tokens, and as letters."""
    seen: list[list[Part]] = []
    for special in (tokens_of(form), {}):
        for pieces in cuts(segments(text, special)):
            parts = read(form.parser(tools, special), pieces)
            if parts not in seen:
                seen.append(parts)
    return seen


def call(name: str, arguments: str, index: int = 0) -> list[Part]:
    """A call with all its arguments."""
    return [CallBegun(index, "", name), CallArguments(index, arguments)]
