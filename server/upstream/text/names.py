r"""Which token a black box means that names tokens by their text.

Several ids may have one text: they have the same bytes, or what is shown of them is not their bytes. A part of a
character is shown as U+FFFD, as nothing, as what stands before it, or spelled out as `bytes:\xf0\x9f`.
"""

from collections.abc import Iterator
from typing import Final
from weakref import WeakKeyDictionary

from deltaserve.errors import BadRequest, MalformedTopK
from deltaserve.server.upstream.base import TokenizerView
from deltaserve.server.upstream.topk import is_text

_SEVERAL: Final = -1
_SPELLED: Final = "bytes:"
_REPLACEMENT: Final = "\ufffd"


class TokenNames:
    """The ids of a tokenizer by their bytes."""

    def __init__(self, tokenizer: TokenizerView) -> None:
        self._ids: dict[bytes, int] = {}
        self._beginnings: set[bytes] = set()  # what stands before the part of a character that a token ends in
        for token_id, raw in _all_bytes(tokenizer):
            self._ids[raw] = _SEVERAL if raw in self._ids else token_id
            if not is_text(raw):
                self._beginnings.add(_whole_part(raw))

    def named(self, text: str, raw: bytes | None = None) -> int | None:
        """The only id that this is the name of; None where it may be several. Raises MalformedTopK for no token's.

        `raw`: the bytes that came with the text, where it has some; many servers send those of the text itself.
        """
        if raw is not None and raw != text.encode():
            return self._only(raw)
        if not text or _REPLACEMENT in text:
            return None
        return self._only(name_bytes(text))

    def may_be_cut(self, text: str) -> bool:
        """Whether it may be a token that goes on with a part of a character, where a server leaves that part out."""
        return text.encode() in self._beginnings

    def _only(self, raw: bytes) -> int | None:
        token_id = self._ids.get(raw)
        if token_id is None:
            raise MalformedTopK("The upstream listed a token text that is no token of the tokenizer.")
        return None if token_id == _SEVERAL else token_id


def names_of(tokenizer: TokenizerView) -> TokenNames:
    """Of this tokenizer; made once, for a vocabulary takes a tenth of a second."""
    names = _KNOWN.get(tokenizer)
    if names is None:
        names = _KNOWN[tokenizer] = TokenNames(tokenizer)
    return names


_KNOWN: WeakKeyDictionary[TokenizerView, TokenNames] = WeakKeyDictionary()


def name_bytes(text: str) -> bytes:
    r"""The bytes that a token string stands for: its UTF-8, or what `bytes:\xf0\x9f` spells out."""
    if text.startswith(_SPELLED) and len(text) > len(_SPELLED):
        spelled = text[len(_SPELLED) :]
        try:
            return spelled.encode("latin-1").decode("unicode_escape").encode("latin-1")
        except (UnicodeDecodeError, UnicodeEncodeError):
            return text.encode()
    return text.encode()


def _all_bytes(tokenizer: TokenizerView) -> Iterator[tuple[int, bytes]]:
    """Every id with its bytes; ids between others may be no tokens."""
    for token_id in range(tokenizer.vocab_size):
        try:
            yield token_id, tokenizer.token_bytes(token_id)
        except BadRequest:
            continue


def _whole_part(raw: bytes) -> bytes:
    """The longest beginning that is text."""
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        return raw[: error.start]
    return raw
