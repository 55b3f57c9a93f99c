"""Answers held to grammars, as vLLM does it with its backend `guidance`."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from llguidance import LLMatcher, LLTokenizer
from llguidance.hf import from_tokenizer


class Grammars:
    """Of one tokenizer."""

    def __init__(self, tokenizer: Any, vocab_size: int, eos_ids: Iterable[int]) -> None:
        self._tokenizer = tokenizer
        self._size = vocab_size
        self._eos_ids = sorted(eos_ids)
        self._words: LLTokenizer | None = None

    def begin(self, grammar: str) -> "Walk":
        """At the beginning of an answer. Raises ValueError for a grammar that cannot be."""
        if self._words is None:  # takes a while, and most requests have no grammar
            self._words = from_tokenizer(self._tokenizer, self._size, self._eos_ids)
        matcher = LLMatcher(self._words, grammar, log_level=0)
        if matcher.is_error():
            raise ValueError(matcher.get_error())
        return Walk(matcher, self._size, self._eos_ids)


@dataclass(slots=True)
class Walk:
    """One answer's way through its grammar."""

    matcher: LLMatcher
    size: int
    eos_ids: list[int]

    def another(self) -> "Walk":
        """Another answer at the same place."""
        return Walk(self.matcher.deep_copy(), self.size, self.eos_ids)

    def allowed(self) -> torch.Tensor:
        """Which ids may come next, [V] bool; the ends alone where nothing else may."""
        if self.matcher.is_stopped():
            mask = torch.zeros(self.size, dtype=torch.bool)
            mask[self.eos_ids] = True
            return mask
        bits = np.frombuffer(self.matcher.compute_bitmask(), np.uint8)
        return torch.from_numpy(np.unpackbits(bits, bitorder="little")[: self.size].astype(np.bool_))

    def take(self, token_id: int) -> None:
        if not self.matcher.is_stopped():
            self.matcher.consume_token(token_id)
