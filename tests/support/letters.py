"""The toy world's vocabulary as a grammar sees it: ids 0 … 10 are the letters a … k, id 11 ends an answer.

In larger vocabularies the other ids stand for texts like `<17>`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from llguidance import LLMatcher, LLTokenizer

from deltaserve.server.decoding.constraints.constraint import Constraint
from deltaserve.server.decoding.constraints.grammar import Grammar, parsing_vocabulary
from deltaserve.server.decoding.constraints.grammar import compiled as compiled_text

END = 11


@dataclass(frozen=True)
class Letters:
    vocab_size: int = 12
    eos_ids: Sequence[int] = (END,)
    special_ids: frozenset[int] = frozenset({END})
    masked_ids: Sequence[int] = ()
    joins: bool = True

    def token_bytes(self, token_id: int) -> bytes:
        return bytes([ord("a") + token_id]) if token_id < END else b"<%d>" % token_id

    def encode(self, text: str) -> list[int]:
        return [ord(letter) - ord("a") for letter in text if "a" <= letter <= "k"]


@cache
def parsing(size: int) -> LLTokenizer:
    return parsing_vocabulary(Letters(size))


def regex(pattern: str, after: tuple[int, ...] = ()) -> Constraint:
    return Constraint(LLMatcher.grammar_from_regex(pattern), after)


@cache
def compiled(constraint: Constraint, size: int = 12) -> Grammar:
    return compiled_text(constraint.grammar, parsing(size))


def letters(ids: Sequence[int]) -> str:
    return "".join("." if i == END else chr(ord("a") + i) for i in ids)
