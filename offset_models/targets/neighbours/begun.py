"""Names read out of questions that a black box writes itself: for one that cannot list."""

import re
from collections.abc import Iterable, Iterator
from functools import cache

from deltaserve.offset_models.targets.kinds.attribute import Attribute
from deltaserve.offset_models.targets.kinds.table import ATTRIBUTES
from deltaserve.offset_models.targets.neighbours.naming import is_name
from deltaserve.offset_models.targets.subject import Kind


@cache
def beginnings_of(kind: Kind) -> tuple[str, ...]:
    """What stands before the name in the first question about each attribute: "Where was". For `sampled_questions`."""
    before = (each.questions[0].partition("{name}")[0].strip() for each in _single(kind))
    return tuple(dict.fromkeys(text for text in before if text))


def names_asked(questions: Iterable[str], kind: Kind) -> list[str]:
    """Names in the place of the subject, in questions worded as those about the kind; each once."""
    found = (match[1] for text in questions for pattern in _patterns(kind) if (match := pattern.fullmatch(text)))
    return list(dict.fromkeys(name for name in found if is_name(name)))


@cache
def _patterns(kind: Kind) -> tuple[re.Pattern[str], ...]:
    halves = (text.partition("{name}") for text in _wordings(kind))
    return tuple(re.compile(rf"{re.escape(before)}(.+?){re.escape(after)}") for before, _, after in halves)


def _wordings(kind: Kind) -> Iterator[str]:
    for attribute in _single(kind):
        yield from (text for text in attribute.questions if "{name}'s" not in text)


def _single(kind: Kind) -> list[Attribute]:
    """Attributes that ask for one fact: "Tell me about {name}." may be said of anything."""
    return [each for each in ATTRIBUTES[kind] if not each.overview and not each.many]
