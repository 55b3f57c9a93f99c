"""Grammars over the tokens of one vocabulary. llguidance holds the parser: which bytes may follow, and which tokens."""

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

import numpy as np
from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper

from deltaserve.errors import BadRequest
from deltaserve.server.decoding.protocols import Ids

# Of one grammar: what a schema needs is far below, what would hold the server up is above.
# An option of a choice is an item of a row, and so is each of an object's optional properties, four times.
_LIMITS: Final = LLParserLimits(max_lexer_states=50_000, max_items_in_row=20_000, verbose_errors=False)
_NAMED_ID: Final = re.compile(r"<\[(\d+)\]>")  # of a grammar that asks for this token and no text
_QUICK_S: Final = 0.1  # what was compiled within this may be compiled again on the event loop
_LONGEST_REASON: Final = 300  # characters of llguidance's own words that an error repeats


class Vocabulary(Protocol):
    """What a grammar needs of a tokenizer."""

    @property
    def vocab_size(self) -> int: ...
    @property
    def eos_ids(self) -> Sequence[int]: ...
    @property
    def special_ids(self) -> frozenset[int]: ...
    @property
    def masked_ids(self) -> Sequence[int]: ...
    @property
    def joins(self) -> bool:
        """Whether the text of several tokens is their bytes, one after the other."""

    def token_bytes(self, token_id: int) -> bytes: ...
    def encode(self, text: str) -> list[int]: ...


@dataclass(slots=True, eq=False)
class Grammar:
    """A compiled grammar. Each answer walks through a copy of its parser of its own.

    The copies share what they learn of the grammar's words, and its bounds: once one copy met a bound, all have.
    """

    parser: LLMatcher
    ends: Ids  # ids that llguidance itself takes for the end of a text
    named: frozenset[int]  # ids that the grammar asks for by their number
    anew: Callable[[], LLMatcher] | None = None  # a parser that shares nothing; None where that takes long
    spent: bool = False  # a copy met a bound: no answer should begin with it
    may_be_empty: bool = False  # an answer may end before it has begun, as free text may


def parsing_vocabulary(vocabulary: Vocabulary) -> LLTokenizer:
    """The vocabulary as llguidance knows it, from its tokens' true bytes. Takes seconds where it is large.

    Raises BadRequest where an answer's text is not these bytes, joined.
    """
    if not vocabulary.joins:
        raise BadRequest(
            "A structured answer needs a tokenizer whose tokens have bytes of their own; this one's do not."
        )
    return LLTokenizer(TokenizerWrapper(_Spelled(vocabulary)), eos_token=[*vocabulary.eos_ids] or None)


def compiled(text: str, vocabulary: LLTokenizer) -> Grammar:
    """Raises BadRequest where llguidance does not take the grammar."""
    begun = time.perf_counter()
    parser = _parser(text, vocabulary)
    if parser.is_error():
        raise BadRequest(f"The grammar cannot be used: {_shortened(parser.get_error())}")
    anew = partial(_parser, text, vocabulary) if time.perf_counter() - begun <= _QUICK_S else None
    named = frozenset(map(int, _NAMED_ID.findall(text)))
    ends = np.array(vocabulary.eos_tokens, np.int64)
    return Grammar(parser, ends, named, anew, may_be_empty=parser.deep_copy().is_accepting())


def _parser(text: str, vocabulary: LLTokenizer) -> LLMatcher:
    return LLMatcher(vocabulary, text, log_level=0, limits=_LIMITS)


def broken(parser: LLMatcher) -> BadRequest:
    """The error of a parser that cannot go on; nothing is emitted that it has not allowed."""
    return BadRequest(f"The answer cannot be held to its grammar any further: {_shortened(parser.get_error())}")


class _Spelled:
    """As `TokenizerWrapper` asks for it."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        masked = frozenset(vocabulary.masked_ids)
        size = vocabulary.vocab_size
        self.tokens = [b"" if i in masked else vocabulary.token_bytes(i) for i in range(size)]
        self.special_token_ids = sorted(vocabulary.special_ids)
        self.eos_token_id = next(iter(vocabulary.eos_ids), 0)
        self.bos_token_id = None
        self._vocabulary = vocabulary
        texts = {raw: i for i, raw in enumerate(self.tokens) if raw and i not in vocabulary.special_ids}
        self._texts, self._longest = texts, max(map(len, texts), default=0)

    def __call__(self, text: bytes | str) -> list[int]:
        """Ids whose bytes are `text` and nothing else, as the tokenizer would have them if it can."""
        text = text.encode() if isinstance(text, str) else text
        for before in (b"", b"\n"):  # some put a space before a text; behind a line's end it stays with that
            ids = self._vocabulary.encode((before + text).decode(errors="replace"))
            for cut in range(len(ids) if before else 1):
                if self._spell(ids[cut:], text):
                    return ids[cut:]
        return self._longest_first(text)

    def _spell(self, ids: Sequence[int], text: bytes) -> bool:
        """A special token is none of a text's, even where its name is written there."""
        return self._vocabulary.special_ids.isdisjoint(ids) and b"".join(self.tokens[i] for i in ids) == text

    def _longest_first(self, text: bytes) -> list[int]:
        """The longest token that the rest begins with, and so on, until there is none."""
        ids: list[int] = []
        while text:
            size = next((n for n in range(min(self._longest, len(text)), 0, -1) if text[:n] in self._texts), None)
            if size is None:
                break
            ids.append(self._texts[text[:size]])
            text = text[size:]
        return ids


def _shortened(reason: str) -> str:
    line = " ".join(reason.split())
    return line if len(line) <= _LONGEST_REASON else f"{line[:_LONGEST_REASON]}…"
