"""Ids to text that can be sent: whole characters, and nothing that may still become a stop string."""

import codecs
from collections.abc import Callable, Iterable, Sequence
from itertools import takewhile
from typing import Protocol

from tokenizers import Tokenizer

# A decoder needs a little context to know whether a first token starts with a space.
_CONTEXT_IDS = 6
# Ids that may wait for the end of a character; more than that are no character, and would make the window grow.
_LONGEST_WAIT = 32
_LONGEST_CHARACTER = 4  # bytes
_BROKEN = "\ufffd"

_Utf8 = codecs.getincrementaldecoder("utf-8")


class Detokenizer(Protocol):
    def step(self, token_id: int) -> str:
        """Text that became certain with this id; empty while a character is incomplete."""

    def flush(self) -> str:
        """What is left at the end; an incomplete character becomes U+FFFD."""


class PlacedDetokenizer(Detokenizer, Protocol):
    """One that tells whether a character has begun that is not shown yet."""

    @property
    def incomplete(self) -> bool: ...


class ByteDetokenizer:
    """Joins the bytes of tokens and decodes them as UTF-8; bytes that are none become U+FFFD.

    `bytes_of`: the bytes that an id adds to a text, none for a special token. `leading`: spaces that a text loses at
    its beginning. The prompt decides whether the answer begins a text. Where the prompt ends inside a character, the
    answer shows it whole.
    """

    def __init__(self, bytes_of: Callable[[int], bytes], prompt_ids: Sequence[int] = (), leading: int = 0) -> None:
        self._bytes_of = bytes_of
        self._utf8 = _Utf8("replace")
        before = _last_bytes(bytes_of, prompt_ids)
        self._begun = _begun_character(before)  # of the prompt; no longer needed once the answer has a byte
        self._leading = 0 if before else leading

    def step(self, token_id: int) -> str:
        raw = self._bytes_of(token_id)
        if raw and self._leading:
            raw = self._without_leading(raw)
        if raw and self._begun:
            raw = self._begun + raw if _goes_on(self._begun, raw[:1]) else raw
            self._begun = b""
        return self._utf8.decode(raw)

    def flush(self) -> str:
        return self._utf8.decode(b"", final=True)

    @property
    def incomplete(self) -> bool:
        return bool(self._utf8.getstate()[0])

    def _without_leading(self, raw: bytes) -> bytes:
        spaces = min(len(raw) - len(raw.lstrip(b" ")), self._leading)
        self._leading = self._leading - spaces if spaces == len(raw) else 0
        return raw[spaces:]


def _last_bytes(bytes_of: Callable[[int], bytes], ids: Sequence[int]) -> bytes:
    """The end of a text, long enough for every beginning of a character."""
    end = b""
    for token_id in reversed(ids):
        end = bytes_of(token_id) + end
        if len(end) >= _LONGEST_CHARACTER:
            break
    return end


def _begun_character(raw: bytes) -> bytes:
    """What a text ends with that is the beginning of a character."""
    utf8 = _Utf8("replace")
    utf8.decode(raw)
    return utf8.getstate()[0]


def _goes_on(begun: bytes, byte: bytes) -> bool:
    """Whether this byte belongs to the character that has begun."""
    try:
        _Utf8("strict").decode(begun + byte)
    except UnicodeDecodeError:
        return False
    return True


class IncrementalDetokenizer:
    """Decodes a window of the latest ids with and without the new one; special tokens have text where it is wanted.

    For vocabularies whose tokens have no bytes of their own: the decoder must see several to know what lies between.
    The window always starts at a place where whole characters began.
    """

    def __init__(self, tokenizer: Tokenizer, prompt_ids: Sequence[int] = (), *, special: bool = False) -> None:
        self._tokenizer = tokenizer
        self._skips_special = not special
        self._window = self._context(prompt_ids)
        self._shown_ids = len(self._window)
        self._shown = self._decode(self._window)

    def step(self, token_id: int) -> str:
        self._window.append(token_id)
        text = self._decode(self._window)
        new = self._new(text)
        if not new or (text.endswith(_BROKEN) and self._waiting <= _LONGEST_WAIT):
            return ""
        self._slide()
        return new

    def flush(self) -> str:
        new = self._new(self._decode(self._window))
        self._slide()
        return new

    @property
    def incomplete(self) -> bool:
        return self._waiting > 0 and bool(self._new(self._decode(self._window)))

    @property
    def _waiting(self) -> int:
        return len(self._window) - self._shown_ids

    def _context(self, ids: Sequence[int]) -> list[int]:
        """The last ids, from the beginning of a character on where there is one near."""
        starts = range(max(len(ids) - _CONTEXT_IDS, 0), max(len(ids) - _CONTEXT_IDS - _LONGEST_CHARACTER, -1), -1)
        windows = [list(ids[start:]) for start in starts]
        return next((window for window in windows if not self._decode(window).startswith(_BROKEN)), windows[0])

    def _new(self, text: str) -> str:
        """What `text` has behind the text already shown; half a character there may have become a whole one."""
        if text.startswith(self._shown):
            return text[len(self._shown) :]
        same = takewhile(lambda pair: pair[0] == pair[1], zip(self._shown.rstrip(_BROKEN), text, strict=False))
        return text[len(list(same)) :]

    def _slide(self) -> None:
        """The ids just shown become the context of those to come."""
        del self._window[: self._shown_ids]
        self._shown_ids = len(self._window)
        self._shown = self._decode(self._window)

    def _decode(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=self._skips_special))


class StopStrings:
    """Holds back text that may be the beginning of a stop string; finds the earliest one."""

    def __init__(self, stops: Iterable[str], *, shown: bool = False) -> None:
        self._stops = tuple(stops)
        self._shown = shown  # the one that is found is shown too
        self._held = ""
        self._early = 0  # how much of what is held came too early for a stop string to end in it
        self.matched: str | None = None

    def push(self, text: str, *, early: bool = False) -> str:
        """Text that is safe to show now. After a match nothing more is shown.

        A stop string that is complete within `early` text is passed over; one that only begins there is not.
        """
        if not self._stops:
            return text
        if self.matched is not None:
            return ""
        self._held += text
        if early:
            self._early = len(self._held)
        if (match := self._first_match()) is not None:
            at, self.matched = match
            certain, self._held = self._held[: at + len(self.matched) * self._shown], ""
            return certain
        return self._let_go(len(self._held) - self._longest_prefix_at_end())

    def flush(self) -> str:
        """What was held back for a stop string that never came."""
        return self._let_go(len(self._held))

    def _first_match(self) -> tuple[int, str] | None:
        """(where it begins, the stop string) of the earliest that ends past the early text; of equals the longest."""
        at_least = [(max(0, self._early - len(stop) + 1), stop) for stop in self._stops]
        matches = [(at, stop) for start, stop in at_least if (at := self._held.find(stop, start)) >= 0]
        return min(matches, key=lambda hit: (hit[0], -len(hit[1])), default=None)

    def _let_go(self, cut: int) -> str:
        certain, self._held = self._held[:cut], self._held[cut:]
        self._early = max(0, self._early - cut)
        return certain

    def _longest_prefix_at_end(self) -> int:
        longest = min(len(self._held), max(map(len, self._stops)) - 1)
        for size in range(longest, 0, -1):
            end = self._held[-size:]
            if any(len(stop) > size and stop.startswith(end) for stop in self._stops):
                return size
        return 0
