"""What a black box lists of a subject: its works, its products, its characters; each entry is a fact."""

from collections import Counter
from collections.abc import Sequence
from typing import Final

from deltaserve.offset_models.metrics.words import folded
from deltaserve.offset_models.targets.asking import Asks
from deltaserve.offset_models.targets.facts.effort import Effort
from deltaserve.offset_models.targets.facts.heard import Heard, hear
from deltaserve.offset_models.targets.facts.telling import Listener
from deltaserve.offset_models.targets.kinds.attribute import Attribute
from deltaserve.offset_models.targets.neighbours.naming import names_in
from deltaserve.offset_models.targets.subject import Fact, Kind, Subject

_LONGEST_NAMES: Final[Kind] = "work"  # may hold commas
_CUT: Final = 2.2  # characters a token from which on a list may have been cut off at its limit


async def listed(
    asks: Asks, subject: Subject, attributes: Sequence[Attribute], effort: Effort, listener: Listener
) -> list[Fact]:
    """Entries of the lists, those first that stand in several; no more than `effort.entries` of an attribute."""
    heard = await hear(asks, subject, attributes, effort.lists, effort.list_tokens)
    return [fact for each in heard for fact in _facts(each, subject, effort, listener)]


def is_sure(fact: Fact) -> bool:
    """Whether an entry is more than one list's: said in another one, or verified by its reversed question."""
    return fact.support == 1.0 or bool(fact.reversed_question)


def _facts(heard: Heard, subject: Subject, effort: Effort, listener: Listener) -> list[Fact]:
    answers = [text for text in heard.greedy if not listener.declines(text)]
    lists = [_entries(text, heard, subject, len(text) > _CUT * effort.list_tokens) for text in answers]
    found = Counter(entry for entries in lists for entry in {*entries})
    order = dict.fromkeys(entry for entries in lists for entry in entries)
    ranked = sorted(order, key=lambda entry: -found[entry])[: effort.entries]
    return [_fact(entry, found[entry] / len(heard.greedy), heard, subject) for entry in ranked]


def _fact(entry: str, support: float, heard: Heard, subject: Subject) -> Fact:
    sentence = heard.attribute.statement.format(name=subject.name, value=entry)
    return Fact(subject, heard.attribute.name, heard.questions[0], sentence, entry, support)


def _entries(answer: str, heard: Heard, subject: Subject, cut: bool) -> list[str]:
    """Names of a list that hold neither the subject's name nor words of the question alone. `cut`: it is not whole."""
    names = names_in(answer, _LONGEST_NAMES, cut=cut)
    asked = {*folded(" ".join(heard.questions)).split()}
    return [name for name in names if not subject.named_in(name) and {*folded(name).split()} - asked]
