"""Reads names out of answers: lists with numbers, bullets, lines or commas, with whatever is said beside each name."""

import re
from collections.abc import Sequence
from typing import Final

from deltaserve.offset_models.metrics.words import folded
from deltaserve.offset_models.targets.subject import Kind

MOST_WORDS: Final = 9
_MARK: Final = re.compile(r"^\s*(?:\d{1,3}\s*[.):]|[-*•–]\s)\s*")
# What is said of a name behind it: "(1949)", "- a novel", ": a novel", "by George Orwell".
_BESIDE: Final = re.compile(r"\s*\(|\s+[-–—]+\s|\s*:\s|\s+by\s|\s*\t|\s+is\s|\s+was\s|\s+who\s")
_TITLED: Final = re.compile(r"['’]s?\s+[\"“«]([^\"”»]{2,})[\"”»]")  # George Orwell's "1984"
_QUOTES: Final = "\"'“”‘’«»`*_ \t.,;!"
_SHORTENED: Final = re.compile(r"\s(?:Jr|Sr|Inc|Ltd|Co|Corp)$")
# Words of names that begin with a small letter.
_SMALL: Final = frozenset(
    {"a", "al", "an", "and", "at", "bin", "by", "da", "das", "de", "del", "della", "den", "der", "des", "di", "do",
     "dos", "du", "e", "el", "en", "et", "for", "from", "in", "la", "le", "les", "ibn", "of", "on", "or", "te",
     "ten", "ter", "the", "to", "und", "van", "vom", "von", "y", "zu", "zum", "zur"}
)  # fmt: skip
_LEGAL: Final = re.compile(
    r",?\s+(?:inc|corp|corporation|company|co|ltd|limited|llc|plc|ag|gmbh|se)\.?$", re.IGNORECASE
)
_ANYBODY: Final = (
    {"alice", "bob", "david", "emily", "james", "jane", "john", "lisa", "mary", "michael", "robert", "sarah", "tom"},
    {"brown", "davis", "doe", "johnson", "jones", "lee", "miller", "smith", "taylor", "williams", "wilson"},
)
_SENTENCE: Final = re.compile(r"[.!?]\s+[A-Z][a-z]+\s+[a-z]")
_TITLES: Final[frozenset[Kind]] = frozenset({"work", "event"})  # names that may hold commas


def names_in(answer: str, kind: Kind, *, cut: bool = False) -> list[str]:
    """Names in the order of the answer, each once. `cut`: the answer ended at its limit; the last one may be half.

    An answer that is no list gives none.
    """
    entries = _entries(answer)
    if cut and len(entries) > 1:
        entries = entries[:-1]
    names = (_name(entry, kind) for entry in entries)
    return list(dict.fromkeys(name for name in names if name))


def without_legal_form(name: str) -> str:
    """A company's name as people say it: "Apple Inc." is "Apple"."""
    return _LEGAL.sub("", name)


def is_made_up(names: Sequence[str]) -> bool:
    """Whether a list holds two or more of the names that stand for anybody: "Jane Doe", "John Smith"."""
    words = (folded(name).split() for name in names)
    return sum(len(each) == 2 and each[0] in _ANYBODY[0] and each[1] in _ANYBODY[1] for each in words) > 1


def _entries(answer: str) -> list[str]:
    lines = [line for line in answer.splitlines() if line.strip()]
    marked = [line for line in lines if _MARK.match(line)]
    if len(marked) > 1:
        return [_MARK.sub("", line, count=1) for line in marked]
    if len(lines) > 1:
        return [line for line in lines if not line.rstrip().endswith(":")]
    return _of_line(_MARK.sub("", lines[0], count=1)) if lines else []


def _of_line(line: str) -> list[str]:
    """Between commas, "Such are: A, B and C." too; a line without any is one name, if it looks like one."""
    line = line.rpartition(": ")[2] if line.count(": ") == 1 else line
    if _SENTENCE.search(line):
        return []
    return re.split(r",\s*(?:and\s+|or\s+)?|;\s*|\s+and\s+", line.strip())


def _name(entry: str, kind: Kind) -> str:
    """The entry without what is said beside the name; empty where it does not look like one."""
    titled = _TITLED.search(entry) if kind in _TITLES else None
    entry = titled[1] if titled else entry
    name = _BESIDE.split(entry.strip(_QUOTES) + " ", maxsplit=1)[0]
    if kind not in _TITLES:
        name = re.split(r",\s", name + " ", maxsplit=1)[0]
    name = name.strip(_QUOTES)
    name = f"{name}." if _SHORTENED.search(name) else name
    return name if is_name(name) else ""


def is_name(name: str) -> bool:
    """Whether all its words begin as words of names do."""
    words = name.split()
    if not words or len(words) > MOST_WORDS or not 2 <= len(name) <= 80 or not name.isprintable():
        return False
    return _is_proper(words[0]) and all(_is_proper(word) or word.casefold() in _SMALL for word in words)


def _is_proper(word: str) -> bool:
    """A capital or digit somewhere ("iPhone"), or a script that has no capitals."""
    return any(letter.isupper() or letter.isdigit() or ord(letter) > 0x2E7F or letter == "&" for letter in word)
