"""Ids to text: incremental, with stop strings, and the display strings of single tokens as vLLM shows them."""

from collections.abc import Sequence

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

BROKEN = "\ufffd"  # what a decoder gives for half a character
STALE_PREFIX = "Invalid prefix encountered"  # how tokenizers' DecodeStream says that it lost its place
CONTEXT = 4  # ids of context that can complete a character: UTF-8 has at most four bytes


class TokenTexts:
    """Display string of every id, decoded once. A token that ends inside a character shows as ""."""

    def __init__(self, tokenizer: Tokenizer, vocab_size: int) -> None:
        self._tokenizer = tokenizer
        self._alone: list[str] = tokenizer.decode_batch([[i] for i in range(vocab_size)], skip_special_tokens=False)
        self.placeholders = [f"token_id:{i}" for i in range(vocab_size)]

    def display(self, token_id: int, context: Sequence[int]) -> str:
        """Text that `token_id` shows after the ids of `context` (only the last four matter)."""
        alone = self._alone[token_id]
        return alone if not alone.endswith(BROKEN) else self._completed(token_id, context[-CONTEXT:])

    def _completed(self, token_id: int, context: Sequence[int]) -> str:
        for start in range(len(context) - 1, -1, -1):
            before = self._decode(context[start:])
            whole = self._decode([*context[start:], token_id])
            if not whole.endswith(BROKEN):
                return whole[len(before.rstrip(BROKEN)) :]
        return ""

    def _decode(self, ids: Sequence[int]) -> str:
        return self._tokenizer.decode(list(ids), skip_special_tokens=False)


class Detokenizer:
    """Text of one answer as its ids arrive; holds back what may become a stop string."""

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str], *, include_stop: bool, skip_special: bool) -> None:
        self._tokenizer = tokenizer
        self._stream = DecodeStream(skip_special_tokens=skip_special)
        self._skip_special = skip_special
        self._stop = stop
        self._include_stop = include_stop
        # As vLLM: hold back one character less than the longest stop string.
        self._holdback = 0 if include_stop or not stop else max(map(len, stop)) - 1
        self._sent = 0
        self.text = ""

    def push(self, token_id: int, *, early: bool = False) -> str | None:
        """Appends a token; gives the stop string that its text completed, if any: an `early` token completes none."""
        piece = self._step(token_id)
        if not piece:
            return None
        known = len(self.text)
        self.text += piece
        return None if early else self._cut_at_stop(known)

    def _step(self, token_id: int) -> str | None:
        try:
            return self._stream.step(self._tokenizer, token_id)
        except Exception as error:  # tokenizers raises its base class; anything but the known fault goes on
            if not str(error).startswith(STALE_PREFIX):
                raise
        # Bytes that are no UTF-8 can change how the held-back ids decode: start anew from this id, as vLLM does.
        self._stream = DecodeStream(skip_special_tokens=self._skip_special)
        return self._stream.step(self._tokenizer, token_id)

    def _cut_at_stop(self, known: int) -> str | None:
        """At the earliest stop string that ends past the first `known` characters."""
        starts = [(max(0, known - len(stop) + 1), stop) for stop in self._stop]
        stops = [(at, stop) for start, stop in starts if (at := self.text.find(stop, start)) >= 0]
        if not stops:
            return None
        at, stop = min(stops)
        self.text = self.text[: at + len(stop)] if self._include_stop else self.text[:at]
        return stop

    def take(self, *, finished: bool) -> str:
        """Text not given out before, up to what must be held back."""
        end = len(self.text) if finished else max(self._sent, len(self.text) - self._holdback)
        piece = self.text[self._sent : end]
        self._sent = end
        return piece
