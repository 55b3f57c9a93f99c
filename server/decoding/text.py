"""Ids → text as it may be shown: whole characters only, nothing that may yet turn out to be a stop string."""

from collections.abc import Iterable, Sequence
from typing import Protocol

from tokenizers import Tokenizer

# A decoder needs a little context to know whether a first token starts with a space.
_CONTEXT_IDS = 6
# Ids that may wait for the end of a character; more than that are no character, and would make the window grow.
_LONGEST_WAIT = 32


class Detokenizer(Protocol):
    def step(self, token_id: int) -> str:
        """Text that became certain with this id; empty while a character is incomplete."""

    def flush(self) -> str:
        """What is left at the end; an incomplete character becomes U+FFFD."""


class IncrementalDetokenizer:
    """Decodes a window of the latest ids with and without the new one; special tokens have no text.

    The window always starts at a place where whole characters began. `tokenizers.decoders.DecodeStream` does the
    same faster, but raises in mid-stream on vocabularies with byte fallback.
    """

    def __init__(self, tokenizer: Tokenizer, prompt_ids: Sequence[int] = ()) -> None:
        self._tokenizer = tokenizer
        self._window = list(prompt_ids[-_CONTEXT_IDS:])
        self._shown_ids = len(self._window)
        self._shown = self._decode(self._window)

    def step(self, token_id: int) -> str:
        self._window.append(token_id)
        text = self._decode(self._window)
        if len(text) <= len(self._shown) or (text.endswith("\ufffd") and self._waiting <= _LONGEST_WAIT):
            return ""
        new = text[len(self._shown) :]
        self._slide()
        return new

    def flush(self) -> str:
        text = self._decode(self._window)[len(self._shown) :]
        self._slide()
        return text

    @property
    def _waiting(self) -> int:
        return len(self._window) - self._shown_ids

    def _slide(self) -> None:
        """The ids just shown become the context of those to come."""
        del self._window[: self._shown_ids]
        self._shown_ids = len(self._window)
        self._shown = self._decode(self._window)

    def _decode(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=True))


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
