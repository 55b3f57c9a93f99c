"""Words of a text in any script: what the figures that compare texts count.

Latin words are rouge-score's, which cuts at every letter that is not ASCII ("café" is "caf"): so figures of English
texts are those that others publish. Of other scripts it sees nothing. There a word is a run of letters and digits with
their combining marks; in scripts that put no spaces between words it is one character with its marks.
"""

from bisect import bisect_right
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Final, Literal
from unicodedata import category, name, normalize

from rouge_score.tokenizers import DefaultTokenizer

Script = Literal["latin", "spaced", "continuous"]
# First and last character of blocks written without spaces between words.
_CONTINUOUS: Final = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Burmese
    (0x1780, 0x17FF),  # Khmer
    (0x1950, 0x19FF),  # Tai Le, New Tai Lue, Khmer symbols
    (0x1A20, 0x1AAF),  # Tai Tham
    (0x1B00, 0x1B7F),  # Balinese
    (0x3005, 0x3007),  # 々 〆 〇
    (0x3021, 0x3029),  # Hangzhou numerals
    (0x3031, 0x31BF),  # kana, Bopomofo, single letters of Hangul
    (0x31F0, 0x31FF),  # kana of Ainu
    (0x3400, 0x4DBF),  # Chinese characters
    (0x4E00, 0xA4CF),  # Chinese characters, Yi
    (0xA980, 0xA9FF),  # Javanese, Burmese
    (0xAA60, 0xAADF),  # Burmese, Tai Viet
    (0xF900, 0xFAFF),  # Chinese characters
    (0xFF66, 0xFF9F),  # narrow kana
    (0x1AFF0, 0x1B2FF),  # kana, Tangut and Nushu
    (0x20000, 0x3FFFF),  # Chinese characters
)
_STARTS: Final = tuple(first for first, _ in _CONTINUOUS)


@dataclass(frozen=True, slots=True)
class Span:
    """A word's place in its text."""

    start: int
    end: int
    script: Script


def words(text: str) -> list[str]:
    """As they are compared: case, width and form of composition put aside. None where there is no letter or digit."""
    if text.isascii():
        return _rouge(text)
    return [word for span in spans(text) for word in _compared(text[span.start : span.end], span.script)]


def spans(text: str) -> list[Span]:
    """Places of the words; those of continuous scripts are characters."""
    words: list[Span] = []
    for at, character in enumerate(text):
        script = _script(character)
        if script is None:
            continue
        last = words[-1] if words else None
        follows = last is not None and last.end == at
        if script == "mark":
            if last is not None and follows:
                words[-1] = Span(last.start, at + 1, last.script)
        elif last is not None and follows and script == last.script != "continuous":
            words[-1] = Span(last.start, at + 1, script)
        else:
            words.append(Span(at, at + 1, script))
    return words


def folded(text: str) -> str:
    """Case, width and form of composition put aside."""
    return normalize("NFKC", normalize("NFKC", text).casefold())


def is_whole(text: str, start: int, end: int) -> bool:
    """Whether text[start:end] is not part of longer words. Korean may write particles behind a word without a space."""
    before, after = text[start - 1 : start], text[end : end + 1]
    if before and _goes_on(before, text[start]):
        return False
    last = text[end - 1]
    return (
        not after or not (_goes_on(after, last) or _script(after) == "mark") or (_is_hangul(last) and _is_hangul(after))
    )


def _compared(word: str, script: Script) -> list[str]:
    plain = word if script == "latin" else folded(word.replace("\u200c", "").replace("\u200d", ""))
    words = _rouge(plain) if script == "latin" or plain.isascii() else []
    return words or [folded(plain)]


def _goes_on(neighbour: str, edge: str) -> bool:
    """Whether a word goes on beyond its edge; characters of continuous scripts are words of their own."""
    return (neighbour == "_" or _script(neighbour) is not None) and "continuous" not in (
        _script(neighbour),
        _script(edge),
    )


def _is_hangul(character: str) -> bool:
    return "\uac00" <= character <= "\ud7a3"


@lru_cache(8192)
def _script(character: str) -> Script | Literal["mark"] | None:
    """None for what is in no word; a mark belongs to what stands before it."""
    kind = category(character)
    if kind[0] == "M" or character in "\u200c\u200d":  # what joins letters, or keeps them from joining
        return "mark"
    if (kind[0] != "L" and kind not in ("Nd", "Nl")) or "\u02b0" <= character <= "\u02ff":  # these: apostrophes
        return None
    code = ord(character)
    at = bisect_right(_STARTS, code) - 1
    if at >= 0 and code <= _CONTINUOUS[at][1]:
        return "continuous"
    latin = character.isascii() or character in "ªºµ" or name(character, "").startswith("LATIN ")
    return "latin" if latin else "spaced"


@cache
def _tokenizer() -> DefaultTokenizer:
    return DefaultTokenizer(use_stemmer=True)


def _rouge(text: str) -> list[str]:
    return [str(token) for token in _tokenizer().tokenize(text)]
