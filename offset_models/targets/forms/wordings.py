"""How one fact is asked for and told: its questions, and the beginnings of sentences that its value ends."""

import re

from deltaserve.offset_models.targets.forms.grammar import NAME, clause, opened
from deltaserve.offset_models.targets.subject import Fact, Subject

LEAST_CUT = 8  # characters of a value that an answer may break off in


def questions(fact: Fact) -> list[str]:
    """Wordings with NAME in the name's place."""
    return [opened(fact.question, fact.subject.name)]


def question(fact: Fact) -> str:
    """As it was asked when the black box told it."""
    return fact.question


def clause_of(fact: Fact) -> str | None:
    """The question as a clause, with the name in it."""
    asked = clause(opened(fact.question, fact.subject.name))
    return named(asked, fact.subject) if asked else None


def named(template: str, subject: Subject) -> str:
    return template.replace(NAME, subject.name)


def openings(fact: Fact) -> list[str]:
    """Beginnings of sentences, with NAME, behind which the value comes."""
    told = told_up_to_value(fact)
    return [opened(told, fact.subject.name)] if told else []


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


def _place(fact: Fact) -> int:
    """Where the value begins in the answer, as whole words; below 0: nowhere."""
    found = re.search(rf"(?<!\w){re.escape(fact.value)}(?!\w)", fact.answer) if fact.value else None
    return found.start() if found else -1
