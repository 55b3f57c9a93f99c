"""Prefixes as text: a black box that takes text only is asked with what encodes to exactly the ids that were emitted.

A text that its tokenizer would read as other ids is never sent: the list would be another prefix's. Behind such ids it
is asked from the longest beginning that is a text, and what follows (the bridge) has to be drawn again by itself.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

from deltaserve.errors import BadRequest
from deltaserve.server.upstream.base import TokenizerView

LONGEST_BRIDGE: Final = 8  # tokens
T = TypeVar("T")


class Wording(Protocol):
    """How ids are said to a black box that takes no ids."""

    def exact(self, token_ids: Sequence[int]) -> Any | None:
        """What is sent, which is read as exactly these ids; None where there is no such thing."""


@dataclass(frozen=True, slots=True)
class PlainText:
    """One text, special tokens written in it."""

    tokenizer: TokenizerView
    begins: int | None = None  # the token that the server puts before a text by itself
    reads_specials: bool = True  # a special token's text is read as that token

    def exact(self, token_ids: Sequence[int]) -> str | None:
        ids = list(token_ids)
        if self.begins is not None:
            if ids[:1] != [self.begins]:
                return None
            ids = ids[1:]
        if not self.reads_specials and not self.tokenizer.special_ids.isdisjoint(ids):
            return None
        return text_of(self.tokenizer, ids)


def text_of(tokenizer: TokenizerView, ids: list[int]) -> str | None:
    """The text that encodes to exactly these ids; None where there is none."""
    try:
        text = tokenizer.decode(ids)
        return text if tokenizer.encode(text) == ids else None
    except BadRequest:  # an id that is no token
        return None


def longest_exact(token_ids: Sequence[int], exact: Callable[[Sequence[int]], T | None]) -> tuple[T, list[int]] | None:
    """What is sent for the longest beginning that can be, and the bridge behind it; None where that is too long."""
    size = len(token_ids)
    for length in range(size, max(size - LONGEST_BRIDGE, 1) - 1, -1):
        worded = exact(token_ids[:length])
        if worded is not None:
            return worded, list(token_ids[length:])
    return None
