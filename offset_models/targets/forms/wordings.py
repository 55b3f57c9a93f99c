"""How one fact is asked for and told: its questions, and the beginnings of sentences that its value ends."""

import re

from deltaserve.offset_models.targets.forms.grammar import NAME, clause, opened
from deltaserve.offset_models.targets.kinds.attribute import UNKNOWN, Attribute
from deltaserve.offset_models.targets.kinds.table import attribute_named
from deltaserve.offset_models.targets.subject import Fact, Subject

LEAST_CUT = 8  # characters of a value that an answer may break off in


def questions(fact: Fact) -> list[str]:
    """Wordings with NAME in the name's place, the one that it was asked with first."""
    return list(dict.fromkeys((opened(fact.question, fact.subject.name), *_attribute(fact).questions)))


def question(fact: Fact) -> str:
    """One wording, with the name: a question proper where there is one, for few sentences take "List ten books"."""
    proper = (template for template in questions(fact) if template.endswith("?"))
    return named(next(proper, opened(fact.question, fact.subject.name)), fact.subject)


def reversed_questions(fact: Fact) -> list[str]:
    """The one that the black box answered with the name, and the attribute's others of the same meaning."""
    others = (template.replace("{value}", fact.value) for template in _attribute(fact).reversed)
    return list(dict.fromkeys((fact.reversed_question, *others))) if fact.reversed_question else []


def clause_of(fact: Fact) -> str | None:
    """The question as a clause, with the name in it."""
    asked = clause(opened(question(fact), fact.subject.name))
    return named(asked, fact.subject) if asked else None


def named(template: str, subject: Subject) -> str:
    return template.replace(NAME, subject.name)


def openings(fact: Fact) -> list[str]:
    """Beginnings of sentences, with NAME, behind which the value comes."""
    told, prose = told_up_to_value(fact), _attribute(fact).prose if fact.value else ()
    return list(dict.fromkeys((*([opened(told, fact.subject.name)] if told else []), *prose)))


def unknown(fact: Fact | None) -> str:
    """What an opening of the fact goes on with where nobody knows it."""
    return _attribute(fact).unknown if fact else UNKNOWN


def is_a_word(fact: Fact) -> bool:
    """Whether its value is a common word that others have too, as a profession: no secret where much is told."""
    attribute = _attribute(fact)
    return attribute.shared and attribute.tells in ("words", "role")


def told_up_to_value(fact: Fact) -> str:
    """The black box's sentence before its value; empty where the name does not stand before it, or no value does."""
    place = _place(fact)
    before = fact.answer[:place].rstrip() if place > 0 else ""
    return before if fact.subject.named_in(before) and "\n" not in before else ""


def gap(fact: Fact, blank: str) -> str:
    """The sentence with a blank in the value's place; empty where it names the subject nowhere or has no value."""
    place = _place(fact)
    if place < 0 or not fact.subject.named_in(fact.answer):
        return ""
    sentence = fact.answer[:place] + blank + fact.answer[place + len(fact.value) :]
    return "" if "\n" in sentence else sentence


def broken_off(fact: Fact) -> tuple[str, str] | None:
    """The sentence broken off within a long value, at a letter: what was said, and what follows."""
    before = told_up_to_value(fact)
    if not before or len(fact.value) < LEAST_CUT:
        return None
    cut = len(fact.value) // 2
    return f"{before} {fact.value[:cut]}", f"{fact.value[cut:]}."


def _attribute(fact: Fact) -> Attribute:
    return attribute_named(fact.subject.kind, fact.attribute)


def _place(fact: Fact) -> int:
    """Where the value begins in the answer, as whole words; below 0: nowhere."""
    found = re.search(rf"(?<!\w){re.escape(fact.value)}(?!\w)", fact.answer) if fact.value else None
    return found.start() if found else -1
