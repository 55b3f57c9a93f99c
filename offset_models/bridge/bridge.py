"""What one black box's tokenizer and one pair's have in common: built once, shared by all streams."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np

from deltaserve.errors import BadRequest, NoOffset
from deltaserve.offset_models.bridge.position import Position
from deltaserve.offset_models.bridge.row import Reader
from deltaserve.offset_models.bridge.spelled import spelled
from deltaserve.offset_models.bridge.tables import interval_tables
from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from deltaserve.server.decoding.protocols import Ids

LOOSE: Final = 4  # of a prompt's last tokens, how many the answer's first bytes may still change
_MARKED: Final = (
    "The offset's tokenizer is not the black box's, and special tokens have no bytes: send a chat as messages "
    "(/v1/chat/completions), or a prompt without special tokens."
)
_UNKNOWN_MARK: Final = "The black box wrote a special token that the pair's tokenizer has no part for."


@dataclass(slots=True)
class Figures:
    """Counters since the start."""

    bridged_tokens: int = 0  # decided
    bridged_rows: int = 0  # of the pair, asked for
    bridged_breaks: int = 0  # how often the pair's tokenizer would not have written what was decided


class Bridge:
    """Bytes of the one, tokens of the other."""

    def __init__(self, box: Tokenizer, pair: Tokenizer, folder: Path | None = None) -> None:
        """`folder` keeps tables. Raises BadCheckpoint for a tokenizer that cannot be bridged."""
        self.box, self.pair = spelled(box, "The black box's"), spelled(pair, "The pair's")
        self.figures = Figures()
        tables = interval_tables(self.box, self.pair, folder)
        self.reader = Reader(self.box.vocabulary, self.pair.vocabulary, tables, self.box.ends)

    @cached_property
    def ends(self) -> Ids:
        """The pair's ids that end an answer."""
        return np.array(self.pair.ends, np.int64)

    @property
    def masked(self) -> Sequence[int]:
        """Ids that the black box's tokenizer does not have."""
        return self.box.tokenizer.masked_ids

    def begin(self, prompt_ids: Sequence[int]) -> Position:
        """The place behind a prompt that is text. Raises BadRequest for one with special tokens in it."""
        words = [self.box.vocabulary.spellings[i] for i in prompt_ids]
        start = 1 if words and prompt_ids[0] == self.box.tokenizer.bos_id else 0
        if not all(words[start:]):
            raise BadRequest(_MARKED)
        return self._behind(b"".join(word or b"" for word in words[start:]))

    def begin_behind(self, pair_ids: Sequence[int]) -> Position:
        """The place behind a prompt in the pair's own tokens, all of which are settled: an answer begins anew there."""
        return Position(self.pair.tree, self.pair.encode, list(pair_ids), begun=len(pair_ids))

    def said(self, token_id: int) -> bytes:
        """The bytes of an emitted token. Raises NoOffset for one that is no text."""
        if not (word := self.box.vocabulary.spellings[token_id]):
            raise NoOffset(_UNKNOWN_MARK)
        return word

    def _behind(self, text: bytes) -> Position:
        """The last tokens of the prompt stay open: bytes that come may still join them."""
        words, cut = _characters(text)
        ids = [*self._before, *self.pair.tokenizer.encode_words(words)]
        kept = min(len(ids), max(1, len(self._before), len(ids) - LOOSE))
        return self._place(ids[:kept], b"".join(map(self.pair.vocabulary.spelling, ids[kept:])) + cut)

    @cached_property
    def _before(self) -> list[int]:
        """What the pair's tokenizer puts before a text."""
        plain, dressed = (self.pair.tokenizer.encode("a", add_special=flag) for flag in (False, True))
        return dressed[: dressed.index(plain[0])] if plain and plain[0] in dressed else []

    def _place(self, settled: list[int], unsettled: bytes) -> Position:
        return Position(self.pair.tree, self.pair.encode, settled, unsettled)


def _characters(text: bytes) -> tuple[str, bytes]:
    """Whole characters, and the beginning of one behind them. Raises BadRequest for what is no UTF-8."""
    try:
        return text.decode(), b""
    except UnicodeDecodeError as error:
        if error.end < len(text) or error.reason != "unexpected end of data":
            raise BadRequest("The prompt's bytes are not UTF-8.") from error
        return text[: error.start].decode(), text[error.start :]
