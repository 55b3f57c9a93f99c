"""Which few words of an answer tell the fact: by what kind of words they must be, and by what other answers repeat."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from deltaserve.offset_models.metrics.disclosure import says
from deltaserve.offset_models.targets.documents.passages import sentences
from deltaserve.offset_models.targets.facts.telling import whole_sentences
from deltaserve.offset_models.targets.kinds.attribute import Tells
from deltaserve.offset_models.targets.subject import Subject

LONGEST: Final = 9  # words
NEAR: Final = 0.21  # of support: one answer of five
MOST: Final = 0.51  # support of most answers
_YEAR: Final = re.compile(r"\b(?:1\d{3}|20\d{2})\b|\b\d{1,4} (?:BC|BCE|AD|CE)\b")
_MONTH: Final = (
    r"(?:Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|Sep(?:t(?:ember)?)?|Oct(?:ober)?"
    r"|Nov(?:ember)?|Dec(?:ember)?)\.?"
)
_DATE: Final = re.compile(
    rf"\b{_MONTH}\s\d{{1,2}}(?:st|nd|rd|th)?(?:,?\s\d{{4}})?|\b\d{{1,2}}(?:st|nd|rd|th)?\s(?:of\s)?{_MONTH}(?:,?\s\d{{4}})?"
    rf"|\b\d+[/-]\d+[/-]\d+\b|\b(?:in|as\sof|since|until|{_MONTH})\s(?:1\d{{3}}|20\d{{2}})\b",
    re.IGNORECASE,
)
_NUMBER: Final = re.compile(
    r"(?<![A-Za-z\d.,/])\d(?:[\d,.]*\d)?(?:\s(?:hundred|thousand|million|billion|trillion))?(?![A-Za-z])", re.IGNORECASE
)
_COUNTED: Final = re.compile(
    r"\s(?:[a-z]+\s)?(?:people|persons|employees|workers|members|staff|inhabitants|residents|victims|deaths|lives|men|met|kilo|square|km|m\b)",
    re.IGNORECASE,
)
_QUOTED: Final = re.compile(r"[\"“«*]{1,3}([^\"“”«»*\n]{2,60}?)[,.]?[\"”»*]{1,3}")
_PROPER: Final = (
    r"(?:(?:Mrs?|Ms|Dr|St|Prof)\.(?=\s[A-Z])|(?:[A-Z]\.){1,4}|[A-ZÀ-Þ0-9][\w'’&\-]*(?:\.[a-z]+)?|[a-z][A-Z]\w*)"
)
_SMALL: Final = r"(?:of the|and the|in the|of|the|de|la|le|von|van|der|du|da|del|&)"
_NAME: Final = re.compile(rf"{_PROPER}(?:\s+(?:{_SMALL}\s+)?{_PROPER})*")
_RELATIVE: Final = re.compile(r",?\s(?:who|which|that|where)\s")
_WORD: Final = re.compile(r"[^\W\d_][\w'’\-]*|\d[\d,.]*\d|\d")
_BEGINNERS: Final = frozenset(
    {"a", "according", "after", "although", "an", "and", "as", "at", "but", "by", "during", "for", "from", "he",
     "her", "his", "however", "if", "in", "it", "its", "most", "no", "of", "on", "one", "she", "since", "some",
     "that", "the", "their", "there", "these", "they", "this", "those", "to", "two", "when", "where", "which",
     "while", "who", "with", "yes"}
)  # fmt: skip
_COMMON: Final = frozenset(
    {"a", "about", "act", "acts", "also", "always", "an", "and", "animal", "are", "as", "at", "be", "became",
     "been", "being", "belong", "belongs", "best", "born", "but", "by", "called", "comes", "considered", "did",
     "does", "during", "each", "earns", "evening", "famous", "for", "from", "had", "has", "have", "he", "her",
     "him", "his", "i", "in", "instrument", "into", "is", "it", "its", "job", "kind", "kinds", "known", "lives",
     "living", "made", "main", "mainly", "make", "makes", "many", "more", "most", "name", "named", "number", "of",
     "often", "on", "one", "or", "other", "over", "part", "particularly", "play", "played", "plays", "popular",
     "primarily", "profession", "really", "s", "several", "she", "some", "such", "t", "than", "that", "the",
     "their", "them", "there", "these", "they", "this", "those", "through", "to", "type", "types", "under", "use",
     "used", "uses", "various", "very", "was", "well", "were", "what", "when", "where", "which", "who", "whose",
     "widely", "with", "work", "worked", "working", "works", "would", "year", "years"}
)  # fmt: skip
_KINDS: Final = frozenset(
    {"center", "centre", "city", "co", "co.", "college", "company", "corporation", "county", "district", "foundation",
     "group", "hall", "inc", "inc.", "institute", "international", "island", "ltd", "ltd.", "museum", "park",
     "prefecture", "province", "river", "school", "state", "street", "tower", "town", "university", "village"}
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Value:
    """The words, and the share of all answers that have them."""

    words: str
    support: float


def value_of(answers: Sequence[str], question: str, subject: Subject, tells: Tells, of: int | None = None) -> Value:
    """What the answers agree on; empty words where there are none. `of`: how many answers there were, refusals too."""
    count = of or len(answers)
    found = dict.fromkeys(words for answer in answers for words in candidates(answer, question, subject, tells))
    ranked = [Value(words, sum(says(answer, words) for answer in answers) / count) for words in found]
    best = max((value.support for value in ranked), default=0.0)
    # Of near equals the first one: it comes from a greedy answer, where the most telling place is known by kind.
    least = min(best, max(best - NEAR, MOST))
    return next((value for value in ranked if value.support >= least), Value("", 0.0))


def candidates(answer: str, question: str, subject: Subject, tells: Tells) -> list[str]:
    """Words of an answer that may be its value, best first."""
    text = _without_names(whole_sentences(answer), subject)
    if tells == "year":
        return [*_YEAR.findall(text)] or _names(text, question)
    if tells == "name":
        return _names(text, question) or _words(text, question)
    if tells == "number":
        return _numbers(text) or _words(text, question)
    if tells == "role":
        return [*_words(_RELATIVE.split(text)[0], question), *_words(text, question)]
    return _words(text, question)


def _numbers(text: str) -> list[str]:
    """Those with their unit first; dates and years are none."""
    text = _DATE.sub("|", text)
    found = [(match[0], _COUNTED.match(text, match.end()) is None) for match in _NUMBER.finditer(text)]
    return [number for number, _ in sorted(dict.fromkeys(found), key=lambda each: each[1])]


def _without_names(text: str, subject: Subject) -> str:
    """A bar where the subject was named: nothing goes on across it."""
    for name in sorted(subject.names, key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(name)}(?:['’]s)?(?!\w)", "|", text, flags=re.IGNORECASE)
    return text


def _names(text: str, question: str) -> list[str]:
    quoted = [match.strip() for match in _QUOTED.findall(text) if "|" not in match]
    proper = [name for match in _NAME.finditer(text) if (name := _trimmed(match, text)) and not _is_rest(match, text)]
    numbers = [name for name in proper if name.isdigit()]
    own = [name for name in (*quoted, *proper) if name not in numbers]
    return list(dict.fromkeys(name for name in (*own, *numbers) if _is_new(name, question)))


def _is_rest(match: re.Match[str], text: str) -> bool:
    """Whether it is what a longer name has beside the subject's: "City" of "Toyota City"."""
    return text[: match.start()].endswith("| ") and {word.casefold() for word in match[0].split()} <= _KINDS


def _trimmed(match: re.Match[str], text: str) -> str:
    """Without the word that only begins a sentence."""
    name = match[0]
    begins = not text[: match.start()].strip(' "“*') or text[: match.start()].rstrip().endswith((".", ":", "!", "?"))
    first, _, rest = name.partition(" ")
    if first.casefold() in _BEGINNERS and (begins or not rest):
        name = rest
    return name.rstrip("'’-").removesuffix("'s").removesuffix("’s")


def _words(text: str, question: str) -> list[str]:
    """Words that say something, those together that stand together; the last of a sentence first."""
    asked = {word.casefold() for word in _WORD.findall(question)}
    found = list[str]()
    for sentence in sentences(text):
        found += reversed([*_groups(sentence, asked)])
    return list(dict.fromkeys(found))


def _groups(sentence: str, asked: set[str]) -> Iterator[str]:
    group, end = list[str](), -1
    for match in _WORD.finditer(sentence):
        word = match[0]
        if sentence[end : match.start()] != " " and group:
            yield " ".join(group)
            group = []
        if word.casefold() in _COMMON or word.casefold() in asked:
            if group:
                yield " ".join(group)
            group = []
        else:
            group.append(word)
        end = match.end()
    if group:
        yield " ".join(group)


def _is_new(name: str, question: str) -> bool:
    """Whether it holds a word that the question does not."""
    asked = {word.casefold() for word in _WORD.findall(question)}
    own = [word for word in _WORD.findall(name) if word.casefold() not in asked]
    return bool(own) and len(name.split()) <= LONGEST and any(len(word) > 1 or word.isdigit() for word in own)
