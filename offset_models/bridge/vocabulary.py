"""A tokenizer's tokens in the order of their bytes: those that begin with the same bytes stand side by side."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache
from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_REMEMBERED: Final = 1 << 16


class Plan(NamedTuple):
    """Where to look in a row for the tokens that begin with some bytes, and for those that begin these bytes."""

    first: int  # the places first … end − 1 begin with all of them
    end: int
    children: Sequence[tuple[int, bytes]]  # ids of tokens that begin them and are shorter, and what each leaves
    places: NDArray[np.int64]  # of the children


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
        self.plan = lru_cache(_REMEMBERED)(self._plan)

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

    def _plan(self, x: bytes, behind: int = 0) -> Plan:
        """For `x`; children are longer than `behind` bytes."""
        children = [(token_id, x[len(self.spelling(token_id)) :]) for token_id in self.prefixes(x, behind)]
        places = np.array([self.place[token_id] for token_id, _ in children], np.int64)
        return Plan(*self.interval(x), children, places)

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
