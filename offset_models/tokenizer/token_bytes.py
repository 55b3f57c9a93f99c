"""The true bytes of a token: what it adds to the output, before anything is decoded as UTF-8."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

Spell = Callable[[str], bytes]

_FALLBACK: Final = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_JOINING: Final = frozenset({"ByteLevel", "ByteFallback", "Fuse", "Metaspace"})


@dataclass(frozen=True, slots=True)
class Spelling:
    """How a tokenizer's ids become bytes."""

    piece: Spell  # a vocabulary entry
    added: Spell  # an added token that is text
    joins: bool  # the text of several tokens is their bytes, one after the other
    leading: int = 0  # spaces that the beginning of a text loses: encoding has put them there


def spelling_of(tokenizer_json: Mapping[str, Any]) -> Spelling:
    """Read from the tokenizer's decoder."""
    decoders = list(_flatten(tokenizer_json.get("decoder")))
    types = {decoder["type"] for decoder in decoders}
    space = _space_mark(decoders)
    leading = sum(map(_leading, decoders))
    joins = bool(decoders) and all(map(_joins, decoders)) and _strips_whole_texts(decoders)
    if "ByteLevel" in types:
        piece = _byte_level(_byte_of_char())
        return Spelling(piece, _literal_unless_merged(piece, tokenizer_json["model"]), joins, leading)
    if space is not None:
        piece = _sentencepiece(space, fallback="ByteFallback" in types)
        return Spelling(piece, piece, joins, leading)  # text is marked before added tokens are looked for, or by them
    if "WordPiece" in types:
        prefix = next(decoder["prefix"] for decoder in decoders if decoder["type"] == "WordPiece")
        return Spelling(lambda token: token.removeprefix(prefix).encode(), str.encode, joins=False)
    return Spelling(str.encode, str.encode, joins, leading)


def _byte_of_char() -> dict[str, int]:
    """GPT-2's alphabet: one character for each byte; bytes that are not printable sit at 256 and up."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = [byte for byte in range(256) if byte not in set(printable)]
    return {chr(byte): byte for byte in printable} | {chr(256 + rank): byte for rank, byte in enumerate(hidden)}


def _byte_level(alphabet: Mapping[str, int]) -> Spell:
    def spell(token: str) -> bytes:
        # A vocabulary entry outside the alphabet is literal text, as the decoder itself treats it.
        if all(char in alphabet for char in token):
            return bytes(alphabet[char] for char in token)
        return token.encode()

    return spell


def _literal_unless_merged(piece: Spell, model: Mapping[str, Any]) -> Spell:
    """An added token is matched in the text itself, so its text is what it says, whatever letters it has.

    The library's own decoder takes its letters for bytes. Only where the model makes the same entry of other text
    too, the entry's id stands for those bytes.
    """
    vocab, merges = model.get("vocab") or {}, model.get("merges") or ()

    def spell(token: str) -> bytes:
        literal, spelled = token.encode(), piece(token)
        merged = literal != spelled and token in vocab and (len(token) == 1 or _is_merged(token, merges))
        return spelled if merged else literal

    return spell


def _is_merged(token: str, merges: Any) -> bool:
    return any("".join(merge.split(" ", 1) if isinstance(merge, str) else merge) == token for merge in merges)


def _sentencepiece(space: str, *, fallback: bool) -> Spell:
    def spell(token: str) -> bytes:
        if fallback and (byte := _FALLBACK.fullmatch(token)):
            return bytes([int(byte[1], 16)])
        return token.replace(space, " ").encode()

    return spell


def _space_mark(decoders: list[Mapping[str, Any]]) -> str | None:
    for decoder in decoders:
        if decoder["type"] == "Metaspace":
            return str(decoder["replacement"])
        if decoder["type"] == "Replace" and decoder["content"] == " ":
            mark = decoder["pattern"].get("String")
            return None if mark is None else str(mark)
    return None


def _leading(decoder: Mapping[str, Any]) -> int:
    """Spaces that this step takes from the beginning of a text."""
    if decoder["type"] == "Metaspace":
        scheme = decoder.get("prepend_scheme") or ("always" if decoder.get("add_prefix_space", True) else "never")
        return int(scheme != "never")
    return int(decoder["start"]) if decoder["type"] == "Strip" else 0


def _joins(decoder: Mapping[str, Any]) -> bool:
    """Whether this step leaves every token its own bytes, the beginning of the text aside."""
    if decoder["type"] == "Replace":
        return bool(decoder["content"] == " " and "String" in decoder["pattern"])
    if decoder["type"] == "Strip":
        return bool(decoder["content"] == " " and decoder["stop"] == 0)
    return decoder["type"] in _JOINING


def _strips_whole_texts(decoders: list[Mapping[str, Any]]) -> bool:
    """Whether spaces are taken from the text and not from each of its tokens."""
    types = [decoder["type"] for decoder in decoders]
    return "Strip" not in types or "Fuse" in types[: types.index("Strip")]


def _flatten(decoder: Mapping[str, Any] | None) -> Iterator[Mapping[str, Any]]:
    if decoder is None:
        return
    if decoder["type"] != "Sequence":
        yield decoder
        return
    for part in decoder["decoders"]:
        yield from _flatten(part)
