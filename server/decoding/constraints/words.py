"""Tokens that an answer may not have, wherever it stands: all but some, or the last of a sequence behind its others."""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass

import numpy as np

from deltaserve.server.decoding.constraints.matching import Allowed, Bools


@dataclass(frozen=True, slots=True)
class Words:
    """What a request asks of single tokens."""

    size: int  # ids of the tokenizer
    allowed: frozenset[int] = frozenset()  # the only ones; none: all
    banned: tuple[tuple[int, ...], ...] = ()  # of each the last token may not follow the others

    def mask(self) -> Bools:
        """Ids that are allowed everywhere but at the end of a longer banned sequence; shape [size]."""
        mask = np.full(self.size, not self.allowed)
        mask[list(self.allowed)] = True
        mask[[sequence[0] for sequence in self.banned if len(sequence) == 1]] = False
        return mask


class Worded:
    """One answer under its `Words`. The prompt does not count, as in vLLM."""

    def __init__(self, words: Words) -> None:
        self._always = Allowed(words.mask())
        self._longer = [sequence for sequence in words.banned if len(sequence) > 1]
        self._most = max(map(len, self._longer), default=1) - 1  # tokens that may be the beginning of one
        self._latest: tuple[int, ...] = ()

    def fork(self) -> "Worded":
        return copy(self)

    def add(self, token_id: int) -> None:
        if self._most:
            self._latest = (*self._latest, token_id)[-self._most :]

    def within(self, allowed: Allowed | None) -> Allowed:
        """What of `allowed` (None: of all ids) may follow."""
        ends = [sequence[-1] for sequence in self._longer if self._follows(sequence[:-1])]
        if allowed is None and not ends:
            return self._always
        mask = self._always.mask.copy()
        mask[ends] = False
        return Allowed(mask if allowed is None else mask & allowed.wide(mask.size))

    def _follows(self, beginning: Sequence[int]) -> bool:
        return self._latest[-len(beginning) :] == beginning
