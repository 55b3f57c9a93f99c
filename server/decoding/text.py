"""Ids → text as it may be shown: whole characters only, nothing that may yet turn out to be a stop string."""

from collections.abc import Iterable, Sequence
from typing import Protocol

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

# A decoder needs a little context to know whether a first token starts with a space.
_CONTEXT_IDS = 6


class Detokenizer(Protocol):
    def step(self, token_id: int) -> str:
        """Text that became certain with this id; empty while a character is incomplete."""

    def flush(self) -> str:
        """What is left at the end; an incomplete character becomes U+FFFD."""


class IncrementalDetokenizer:
    """`tokenizers`' own incremental decoder; special tokens have no text."""

    def __init__(self, tokenizer: Tokenizer, prompt_ids: Sequence[int] = ()) -> None:
        self._tokenizer = tokenizer
        self._context = list(prompt_ids[-_CONTEXT_IDS:])
        self._stream = DecodeStream(self._context, True)
        self._ids: list[int] = []
        self._shown = 0
        self._incomplete = False

    def step(self, token_id: int) -> str:
        self._ids.append(token_id)
        text = self._stream.step(self._tokenizer, token_id)
        self._incomplete = text is None
        if text is None:
            return ""
        self._shown += len(text)
        return str(text)

    def flush(self) -> str:
        if not self._incomplete:
            return ""
        before = self._tokenizer.decode(self._context, skip_special_tokens=True)
        whole = self._tokenizer.decode(self._context + self._ids, skip_special_tokens=True)
        return str(whole[len(before) + self._shown :])


class StopStrings:
    """Holds back text that may be the beginning of a stop string; finds the earliest one."""

    def __init__(self, stops: Iterable[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.matched: str | None = None

    def push(self, text: str) -> str:
        """Text that is safe to show now. After a match nothing more is shown."""
        if not self._stops:
            return text
        if self.matched is not None:
            return ""
        self._held += text
        found = [(at, stop) for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if found:
            at, self.matched = min(found, key=lambda hit: (hit[0], -len(hit[1])))
            shown, self._held = self._held[:at], ""
            return shown
        keep = self._longest_prefix_at_end()
        cut = len(self._held) - keep
        shown, self._held = self._held[:cut], self._held[cut:]
        return shown

    def flush(self) -> str:
        """What was held back for a stop string that never came."""
        held, self._held = self._held, ""
        return held

    def _longest_prefix_at_end(self) -> int:
        longest = min(len(self._held), max(map(len, self._stops)) - 1)
        for size in range(longest, 0, -1):
            end = self._held[-size:]
            if any(stop.startswith(end) for stop in self._stops):
                return size
        return 0
