"""A tokenizer's tokens in the order of their bytes: those that begin with the same bytes stand side by side."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from functools import cached_property

import torch
from torch import Tensor


class ByteVocabulary:
    """Ids by their bytes. Ids without bytes (special tokens, ids that the tokenizer does not have) are no text."""

    def __init__(self, spellings: Sequence[bytes | None]) -> None:
        """`spellings` [V]: the bytes of each id; None or empty where it is no text."""
        pairs = sorted((word, i) for i, word in enumerate(spellings) if word)
        self.spellings = list(spellings)
        self.words = [word for word, _ in pairs]  # [T] ascending
        self.ids = [i for _, i in pairs]  # [T] ids in that order
        self.longest = max(map(len, self.words), default=0)
        self._places: dict[bytes, tuple[int, int]] = {}
        for place, word in enumerate(self.words):
            first, _ = self._places.get(word, (place, place))
            self._places[word] = (first, place + 1)

    @cached_property
    def order(self) -> Tensor:
        """The ids in the order of their bytes, [T] int64."""
        return torch.tensor(self.ids, dtype=torch.long)

    @cached_property
    def place(self) -> dict[int, int]:
        """Where an id stands in that order."""
        return {token_id: place for place, token_id in enumerate(self.ids)}

    def interval(self, x: bytes) -> tuple[int, int]:
        """(first, end) of the places whose tokens begin with `x`; for no bytes, all of them."""
        first, behind = bisect_left(self.words, x), _behind(x)
        return first, len(self.words) if behind is None else bisect_left(self.words, behind, first)

    def spelling(self, token_id: int) -> bytes:
        """The bytes of an id that is text."""
        return self.spellings[token_id] or b""

    def prefixes(self, x: bytes, behind: int = 0) -> Iterator[int]:
        """Ids whose bytes begin `x`, shorter than it and longer than `behind`; several may share their bytes."""
        for length in range(behind + 1, min(self.longest + 1, len(x))):
            yield from self.spelled(x[:length])

    def spelled(self, x: bytes) -> Sequence[int]:
        """Ids whose bytes are `x`."""
        first, end = self._places.get(x, (0, 0))
        return self.ids[first:end]


def _behind(x: bytes) -> bytes | None:
    """The least bytes that come after all that begin with `x`; None where nothing does."""
    head = x.rstrip(b"\xff")
    return head[:-1] + bytes([head[-1] + 1]) if head else None
