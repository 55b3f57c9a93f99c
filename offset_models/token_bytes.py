"""The true bytes of a token: what it adds to the output, before anything is decoded as UTF-8."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

Spell = Callable[[str], bytes]

_FALLBACK: Final = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def speller(tokenizer_json: Mapping[str, Any]) -> Spell:
    """How this tokenizer's vocabulary entries (not its added tokens) spell bytes, read from its decoder."""
    decoders = list(_flatten(tokenizer_json.get("decoder")))
    types = {decoder["type"] for decoder in decoders}
    if "ByteLevel" in types:
        return _byte_level(_byte_of_char())
    if space := _space_mark(decoders):
        return _sentencepiece(space, fallback="ByteFallback" in types)
    if "WordPiece" in types:
        prefix = next(decoder["prefix"] for decoder in decoders if decoder["type"] == "WordPiece")
        return lambda token: token.removeprefix(prefix).encode()
    return str.encode


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


def _flatten(decoder: Mapping[str, Any] | None) -> Iterator[Mapping[str, Any]]:
    if decoder is None:
        return
    if decoder["type"] != "Sequence":
        yield decoder
        return
    for part in decoder["decoders"]:
        yield from _flatten(part)
