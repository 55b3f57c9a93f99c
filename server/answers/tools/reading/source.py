"""The text of an answer as far as it has come, with marks in it."""

import re
from collections.abc import Iterator, Mapping

from deltaserve.server.answers.parts import Part, Segment, Special

# A parser is written as if all text were there. Where it needs more it yields None, and goes on after the next push.
Reading = Iterator[Part | None]

# Tokens stand in the text as lone surrogates, which no decoded text holds: one search finds marks of both kinds.
_FIRST_TOKEN = 0xDC00
_TOKENS = re.compile("[\udc00-\udcff]")


class Source:
    """Text that grows at its end and is taken from its front. `closed`: the answer is over."""

    def __init__(self, markers: tuple[str, ...], special: Mapping[str, int]) -> None:
        self._texts = tuple(text for text in markers if text in special)
        self._signs = {text: chr(_FIRST_TOKEN + n) for n, text in enumerate(self._texts)}
        self.text = ""
        self.closed = False
        self._kept: str | None = None

    def sign(self, marker: str) -> str:
        """How the marker stands in `text`: one character for a token, else its letters."""
        return self._signs.get(marker, marker)

    def push(self, segment: Segment) -> None:
        if isinstance(segment, Special):
            segment = self._signs.get(segment.text, segment.text)
        self.text += segment

    def take(self, length: int) -> str:
        """The next characters, which are then gone. Tokens in them are spelled out."""
        taken, self.text = self.text[:length], self.text[length:]
        if self._kept is not None:
            self._kept += taken
        return self.spelled(taken)

    def keep(self) -> None:
        """From here on what is taken can be put back."""
        self._kept = ""

    def put_back(self) -> None:
        """As it was at `keep`, with what came since."""
        self.text, self._kept = (self._kept or "") + self.text, None

    def drop(self) -> None:
        """What was taken since `keep` stays taken."""
        self._kept = None

    def spelled(self, text: str) -> str:
        """The same with tokens written as the tokenizer writes them."""
        return _TOKENS.sub(lambda sign: self._texts[ord(sign[0]) - _FIRST_TOKEN], text) if self._texts else text

    def held(self, *signs: str) -> int:
        """How many characters at the end may still become one of these signs."""
        if self.closed:
            return 0
        longest = min(max(map(len, signs)) - 1, len(self.text))
        ends = (n for n in range(longest, 0, -1) if any(sign.startswith(self.text[-n:]) for sign in signs))
        return next(ends, 0)
