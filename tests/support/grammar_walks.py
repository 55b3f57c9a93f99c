"""Answers drawn at random within a grammar, over single bytes and a format's marks."""

import codecs
import random
from collections.abc import Sequence

import llguidance.numpy
import numpy as np
from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper

from deltaserve.server.answers.parts import Segment, Special

_BYTES = 256
_LETTERS = set(range(32, 127)) | {10}
_LIKELY = set(map(ord, '"}]),'))  # what ends a value
LONGEST = 4000  # tokens of one answer


class Vocabulary:
    """Bytes, then these marks as tokens of their own, then the end."""

    def __init__(self, marks: Sequence[str]) -> None:
        self.special = {mark: _BYTES + n for n, mark in enumerate(marks)}
        self.texts = {token_id: mark for mark, token_id in self.special.items()}
        self.end = _BYTES + len(marks)
        self.tokenizer = LLTokenizer(TokenizerWrapper(_Spelled([*marks, "<end>"])))

    def ids(self, text: str) -> list[int]:
        return [self.special[text]] if text in self.special else list(text.encode())

    def joined(self, pieces: Sequence[Segment]) -> list[int]:
        return [one for piece in pieces for one in self.ids(piece if isinstance(piece, str) else piece.text)]

    def segments(self, ids: Sequence[int]) -> list[Segment]:
        utf8 = codecs.getincrementaldecoder("utf-8")()
        return [Special(one, self.texts[one]) if one in self.texts else utf8.decode(bytes([one])) for one in ids]


class _Spelled:
    def __init__(self, added: Sequence[str]) -> None:
        self.tokens = [bytes([value]) for value in range(_BYTES)] + [text.encode() for text in added]
        self.special_token_ids = list(range(_BYTES, len(self.tokens)))
        self.eos_token_id, self.bos_token_id = len(self.tokens) - 1, None

    def __call__(self, text: bytes) -> list[int]:
        return list(text)


def walk(
    grammar: str, vocabulary: Vocabulary, phrases: Sequence[str], rng: random.Random, begin: Sequence[Segment] = ()
) -> list[int]:
    """An answer that the grammar accepts, from this beginning on.

    Phrases are tried now and then, so that marks in letters come about.
    """
    matcher = LLMatcher(vocabulary.tokenizer, grammar)
    assert not matcher.is_error(), matcher.get_error()
    ids = vocabulary.joined(begin)
    assert matcher.consume_tokens(ids), matcher.get_error()
    while len(ids) < LONGEST:
        allowed = _allowed(matcher, vocabulary)
        if not allowed or (vocabulary.end in allowed and (len(allowed) == 1 or rng.random() < 0.2)):
            return ids
        step = _step(matcher, vocabulary, phrases, allowed, rng)
        assert matcher.consume_tokens(step), matcher.get_error()
        ids += step
    raise AssertionError("the walk found no end")


def _allowed(matcher: LLMatcher, vocabulary: Vocabulary) -> set[int]:
    mask = llguidance.numpy.allocate_token_bitmask(1, vocabulary.tokenizer.vocab_size)
    llguidance.numpy.fill_next_token_bitmask(matcher, mask)
    bits = np.unpackbits(mask[0].view(np.uint8), bitorder="little")
    allowed = set(map(int, np.flatnonzero(bits)))
    return {one for one in allowed if one >= _BYTES or one in _LETTERS} or allowed  # no pieces of characters by chance


def _step(
    matcher: LLMatcher, vocabulary: Vocabulary, phrases: Sequence[str], allowed: set[int], rng: random.Random
) -> list[int]:
    phrase = vocabulary.ids(rng.choice(phrases)) if phrases and rng.random() < 0.3 else []
    if phrase and matcher.validate_tokens(phrase) == len(phrase):
        return phrase
    options = sorted(allowed - {vocabulary.end})
    weights = [30 if one >= _BYTES else 10 if one in _LIKELY else 1 for one in options]
    return rng.choices(options, weights)
