"""Cuts a document into passages by its paragraphs, within a number of tokens."""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from deltaserve.offset_models.metrics.words import words

MOST_TOKENS: Final = 160  # of a passage: with a question behind it, and an answer, it fits any context
FEWEST_WORDS: Final = 4  # of a passage: a heading alone tells nothing
_SENTENCE_END: Final = re.compile(r"(?:(?<=[.!?…])|(?<=[.!?…][\"'”’)]))\s+(?=[\"'“‘(]*[A-Z0-9À-Þ])|(?<=[。！？])(?!$)")
_NO_END: Final = re.compile(r"(?<!\w)(?:[A-Z]|Mr|Mrs|Ms|Dr|St|Jr|Sr|Prof|No|vol)\.$")
_NUMBERED: Final = re.compile(r"^(?:\d{1,3}[.)]|[-*•])\s+")  # an entry of a list
_ENTRY_END: Final = re.compile(r"^\d{1,3}\.$")
_LIST: Final = re.compile(r"^1[.)]\s.*\s2[.)]\s|^([-*•])\s.*\n\1\s", re.DOTALL)
_LONGEST_TOKEN: Final = 64  # characters
_LONGEST_SENTENCE: Final = 2000  # characters of one that initials may lengthen
_LONGEST_END: Final = 8  # characters in which an initial or a title is seen
Tokens = Callable[[str], int]  # of a text, by the black box's tokenizer


def passages(texts: Iterable[str], tokens: Tokens, most: int = MOST_TOKENS) -> list[str]:
    """Neighbouring paragraphs together as far as `most` tokens go; longer ones cut at sentences, then at words.

    Each passage once, in the documents' order.
    """
    found = (passage for text in texts for passage in _joined(_pieces(text, tokens, most), tokens, most))
    return [passage for passage in dict.fromkeys(found) if len(words(passage)) >= FEWEST_WORDS]


def sentences(text: str) -> list[str]:
    """Cut behind full stops that a new sentence follows; an initial ("J. R. R. Tolkien") and a list's "1." end none."""
    parts: list[str] = []
    listed = _is_list(text)
    for part in _SENTENCE_END.split(text.strip()):
        if parts and _goes_on(parts[-1], listed):
            parts[-1] += f" {part}"
        else:
            parts.append(part)
    return [part.strip() for part in parts if part.strip()]


def _goes_on(part: str, listed: bool) -> bool:
    end = _NO_END.search(part[-_LONGEST_END:]) is not None and len(part) < _LONGEST_SENTENCE
    return end or (listed and _ENTRY_END.match(part) is not None)


def _is_list(text: str) -> bool:
    return _LIST.match(text.strip()) is not None


def unnumbered(text: str) -> list[str]:
    """The sentences of a text, of a list without the numbers or bullets of its entries."""
    found = sentences(text)
    return [_NUMBERED.sub("", sentence) for sentence in found] if _is_list(text) else found


def _pieces(text: str, tokens: Tokens, most: int) -> Iterator[str]:
    """Paragraphs, or parts of those that are too long. Lines of a paragraph are one text."""
    for paragraph in re.split(r"\n\s*\n", text):
        piece = " ".join(paragraph.split())
        if piece:
            yield from [piece] if _size(piece, tokens, most) <= most else _cut(piece, tokens, most)


def _cut(paragraph: str, tokens: Tokens, most: int) -> Iterator[str]:
    """Sentences together as far as they fit, else words."""
    parts: list[str] = []
    for sentence in sentences(paragraph):
        fits = _size(sentence, tokens, most) <= most
        parts += [sentence] if fits else _joined(sentence.split(), tokens, most, " ")
    return _joined(parts, tokens, most, " ")


def _joined(pieces: Iterable[str], tokens: Tokens, most: int, between: str = "\n\n") -> Iterator[str]:
    """Neighbours together while they fit. A piece that is too long by itself (a word without end) is left out.

    Each piece is encoded once, by itself: a space belongs to the token behind it, an empty line is one token more.
    """
    passage: list[str] = []
    left, joint = most, int("\n" in between)
    for piece in pieces:
        size = _size(piece, tokens, most)
        if passage and size > left:
            yield between.join(passage)
            passage, left = [], most
        if size <= left:
            passage.append(piece)
            left -= size + joint
    if passage:
        yield between.join(passage)


def _size(piece: str, tokens: Tokens, most: int) -> int:
    """In tokens; more than `most` at once where it has far too many characters, which take long to encode."""
    return tokens(piece) if len(piece) <= _LONGEST_TOKEN * most else most + 1
