"""Cuts a document into passages by its paragraphs, within a number of tokens."""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from deltaserve.offset_models.metrics.words import words

MOST_TOKENS: Final = 160  # of a passage: with a question behind it, and an answer, it fits any context
FEWEST_WORDS: Final = 4  # of a passage: a heading alone tells nothing
_SENTENCE_END: Final = re.compile(r"(?:(?<=[.!?…])|(?<=[.!?…][\"'”’)]))\s+(?=[\"'“‘(]*[A-Z0-9À-Þ])|(?<=[。！？])(?!$)")
_NO_END: Final = re.compile(r"(?<!\w)(?:[A-Z]|Mr|Mrs|Ms|Dr|St|Jr|Sr|Prof|No|vol)\.$")
Tokens = Callable[[str], int]  # of a text, by the black box's tokenizer


def passages(texts: Iterable[str], tokens: Tokens, most: int = MOST_TOKENS) -> list[str]:
    """Neighbouring paragraphs together as far as `most` tokens go; longer ones cut at sentences, then at words.

    Each passage once, in the documents' order.
    """
    found = (passage for text in texts for passage in _joined(_pieces(text, tokens, most), tokens, most))
    return [passage for passage in dict.fromkeys(found) if len(words(passage)) >= FEWEST_WORDS]


def sentences(text: str) -> list[str]:
    """Cut behind full stops that a new sentence follows; an initial ("J. R. R. Tolkien") ends none."""
    parts: list[str] = []
    for part in _SENTENCE_END.split(text.strip()):
        if parts and _NO_END.search(parts[-1]):
            parts[-1] += f" {part}"
        else:
            parts.append(part)
    return [part.strip() for part in parts if part.strip()]


def _pieces(text: str, tokens: Tokens, most: int) -> Iterator[str]:
    """Paragraphs, or parts of those that are too long. Lines of a paragraph are one text."""
    for paragraph in re.split(r"\n\s*\n", text):
        piece = " ".join(paragraph.split())
        if piece:
            yield from [piece] if tokens(piece) <= most else _cut(piece, tokens, most)


def _cut(paragraph: str, tokens: Tokens, most: int) -> Iterator[str]:
    """Sentences together as far as they fit, else words."""
    parts: list[str] = []
    for sentence in sentences(paragraph):
        parts += [sentence] if tokens(sentence) <= most else _joined(sentence.split(), tokens, most, " ")
    return _joined(parts, tokens, most, " ")


def _joined(pieces: Iterable[str], tokens: Tokens, most: int, between: str = "\n\n") -> Iterator[str]:
    """Neighbours together while they fit. A piece that is too long by itself (a word without end) is left out."""
    passage = ""
    for piece in pieces:
        longer = f"{passage}{between}{piece}" if passage else piece
        if tokens(longer) <= most:
            passage = longer
            continue
        if passage:
            yield passage
        passage = piece if tokens(piece) <= most else ""
    if passage:
        yield passage
