"""Answers without a model: a random walk through what a grammar allows, token by token."""

from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Final

import numpy as np
from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper

END: Final = 256
LONGEST: Final = 600
_CALM: Final = 60  # tokens after which closing ones are preferred
_CLOSING: Final = frozenset([*b'"]}0123', END])


class _Bytes:
    """A vocabulary of one token per byte, and one that ends an answer."""

    eos_token_id = END
    bos_token_id = None
    special_token_ids = (END,)
    tokens = (*(bytes([byte]) for byte in range(256)), b"<end>")

    def __call__(self, text: bytes) -> list[int]:
        return list(text)


@dataclass(frozen=True, slots=True)
class Walk:
    text: bytes
    ended: bool  # at an end that the grammar allows; else it was too long, or `dead`
    dead: bool = False  # nothing was allowed any more


@cache
def vocabulary() -> LLTokenizer:
    return LLTokenizer(TokenizerWrapper(_Bytes()))


def matcher(grammar: str) -> LLMatcher:
    """Raises ValueError with llguidance's words where it does not take the grammar."""
    made = LLMatcher(vocabulary(), grammar, log_level=0)
    if made.is_error():
        raise ValueError(" ".join(made.get_error().split()))
    return made


def takes(start: LLMatcher, text: str) -> bool:
    """Whether the whole text is an answer."""
    walker, ids = start.deep_copy(), list(text.encode())
    return walker.try_consume_tokens(ids) == len(ids) and walker.is_accepting()


def walk(start: LLMatcher, rng: Random) -> Walk:
    """A random answer of `start`'s grammar."""
    walker, said = start.deep_copy(), bytearray()
    while len(said) < LONGEST:
        allowed = np.flatnonzero(np.unpackbits(np.frombuffer(walker.compute_bitmask(), np.uint8), bitorder="little"))
        choices = [int(i) for i in allowed if i <= END]
        if not choices or walker.is_error():
            return Walk(bytes(said), False, dead=True)
        closing = [i for i in choices if i in _CLOSING]
        token = rng.choice(closing if closing and len(said) > _CALM and rng.random() < 0.8 else choices)
        if token == END:
            return Walk(bytes(said), True)
        walker.consume_token(token)
        said.append(token)
    return Walk(bytes(said), False)
