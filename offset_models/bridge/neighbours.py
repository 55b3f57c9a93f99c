"""Which token may follow which: a tokenizer writes a text in one way only, so most pairs of tokens never meet.

For byte pair encoding a sequence is what the tokenizer writes exactly when it writes each two neighbours so
(docs/bridge.md; tests hold it against all sequences). So one look back is enough, but for tokens that end inside a
character: they are judged together with those that complete it, because half a character is no text to encode.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Protocol

Path = tuple[int, ...]
Encode = Callable[[bytes], Sequence[int] | None]  # None: these bytes are no text by themselves

_REMEMBERED = 1 << 18


class Neighbours(Protocol):
    """The judge of paths of tokens."""

    def may_follow(self, before: Path, token_id: int) -> bool:
        """Whether the tokenizer may write `token_id` right behind these tokens, which it may write."""

    def reach(self, path: Path) -> Path:
        """The last tokens of a path: all that `may_follow` looks at."""


class AnyNeighbours:
    """Every sequence of tokens counts, also those that the tokenizer would never write."""

    def may_follow(self, before: Path, token_id: int) -> bool:  # noqa: ARG002
        return True

    def reach(self, path: Path) -> Path:  # noqa: ARG002
        return ()


class WrittenNeighbours:
    """Only what the tokenizer itself writes counts, as far as two neighbours can tell."""

    def __init__(self, spelling: Callable[[int], bytes], encode: Encode) -> None:
        """`spelling`: the bytes of an id, empty for one that is no text. `encode`: ids of bytes inside a text."""
        self._spelling = spelling
        self._encode = encode
        self._writes = lru_cache(_REMEMBERED)(self._is_written)

    def may_follow(self, before: Path, token_id: int) -> bool:
        return not before or self._writes((*before, token_id))

    def _is_written(self, window: Path) -> bool:
        written = self._encode(b"".join(map(self._spelling, window)))
        return written is None or tuple(written) == window

    def reach(self, path: Path) -> Path:
        """From the last token that was judged with what it follows, and from where its first character begins."""
        start = self._judged(path)
        while start > 0 and _inside_character(self._spelling(path[start])):
            start -= 1
        return self._behind_marks(path[start:])

    def _behind_marks(self, tail: Path) -> Path:
        """A token that is no text ends what was before it."""
        marks = [place for place, token_id in enumerate(tail) if not self._spelling(token_id)]
        return tail[marks[-1] + 1 :] if marks else tail

    def _judged(self, path: Path) -> int:
        """Place of the last token that ends with a whole character; the first one where none does."""
        for place in range(len(path) - 1, 0, -1):
            if not _cut_at_end(b"".join(map(self._spelling, path[max(0, place - 3) : place + 1]))):
                return place
        return 0


def _inside_character(word: bytes) -> bool:
    return bool(word) and 0x80 <= word[0] < 0xC0


def _cut_at_end(text: bytes) -> bool:
    """Whether the last character of UTF-8 lacks bytes."""
    for back, byte in enumerate(reversed(text[-4:]), 1):
        if byte < 0x80:
            return False
        if byte >= 0xC0:
            return back < (2 if byte < 0xE0 else 3 if byte < 0xF0 else 4)
    return False
