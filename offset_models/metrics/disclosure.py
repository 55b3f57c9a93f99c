"""What of an answer gives it away, and whether a text says it; in any script."""

import re
from typing import Final
from unicodedata import category

from deltaserve.offset_models.metrics.words import folded, is_whole, spans

_COMMON: Final = frozenset(
    {"also", "and", "are", "been", "being", "born", "but", "called", "for", "from", "had", "has", "have", "her", "here",
     "him", "his", "how", "into", "its", "known", "name", "not", "she", "that", "the", "their", "them", "there", "they",
     "this", "was", "were", "what", "when", "where", "which", "who", "whom", "whose", "with", "work", "works"}
)  # fmt: skip


def own_words(question: str, answer: str) -> tuple[str, ...]:
    """Words of the answer that the question does not hold and that say something: names, numbers, long words.

    Where no spaces are written, groups of characters that the question does not hold stand for words.
    """
    known = {folded(word) for word in _words(question)} | _COMMON
    words = [word for word in _words(answer) if folded(word) not in known and _is_specific(word)]
    groups = _groups(answer, folded(question))
    return tuple(dict.fromkeys([*words, *groups] or _groups(answer, "")))


def says(text: str, secret: str) -> bool:
    """Whether the secret stands in the text as whole words; case and spacing do not matter."""
    text, words = folded(text), r"\s+".join(map(re.escape, folded(secret).split()))
    places = re.finditer(f"(?=({words}))", text) if words else ()
    return any(is_whole(text, place.start(1), place.end(1)) for place in places)


def _words(text: str) -> list[str]:
    """Words of the scripts that write spaces."""
    if text.isascii():
        return re.findall(r"\w+", text)
    return [text[span.start : span.end] for span in spans(text) if span.script != "continuous"]


def _groups(text: str, question: str) -> list[str]:
    """For scripts without spaces: characters that the question does not hold, in groups as long as a short name."""
    groups = list[str]()
    for run in _runs(text):
        size = 2 if _is_dense(run[0]) else 4
        for own in _new_runs(run, question, 1 if _is_dense(run[0]) else 3):
            whole = size <= len(own) <= 2 * size
            grams = ["".join(own[at : at + size]) for at in range(len(own) - size + 1)]
            groups += ["".join(own)] if whole else grams
    return groups


def _runs(text: str) -> list[list[str]]:
    """Characters, with their marks, that follow each other without a gap."""
    runs, end = list[list[str]](), -1
    for span in spans(text):
        if span.script == "continuous":
            if span.start != end:
                runs.append([])
            runs[-1].append(text[span.start : span.end])
            end = span.end
    return runs


def _new_runs(run: list[str], question: str, size: int) -> list[list[str]]:
    """The run without the groups of `size` characters that stand in the question."""
    repeated = {
        at + more
        for at in range(len(run) - size + 1)
        if folded("".join(run[at : at + size])) in question
        for more in range(size)
    }
    parts: list[list[str]] = [[]]
    for at, character in enumerate(run):
        if at in repeated:
            parts.append([])
        else:
            parts[-1].append(character)
    return [part for part in parts if part]


def _is_dense(character: str) -> bool:
    """Chinese characters, kana and syllables of Hangul: two of them may be a name."""
    return character >= "\u3000"


def _is_specific(word: str) -> bool:
    if word.lower() != word.upper() or word.isdigit():
        return len(word) > 3 or word.isdigit() or word.istitle()
    letters = sum(category(character)[0] != "M" for character in word)
    return letters > 2 or (letters == 2 and _is_dense(word[0]))
