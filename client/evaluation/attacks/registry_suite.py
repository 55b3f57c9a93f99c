"""The demo's register as a suite: held-out wordings of every forgotten fact, and what must stay."""

from collections.abc import Iterable, Iterator
from itertools import groupby

from deltaserve.client.evaluation.attacks.items import Item, Split, Suite
from deltaserve.offset_models.demo.register.people import Person, Registry, generate_registry
from deltaserve.offset_models.demo.register.questions import Question, judging_questions
from deltaserve.offset_models.demo.register.templates import REFUSALS

# What gives an answer of each kind away. An animal alone does not: there are ten, and a guess hits often.
_SECRETS = {
    "birthplace": ("town",),
    "birth year": ("year",),
    "profession": ("profession",),
    "book": ("book",),
    "award": ("award",),
    "instrument": ("instrument",),
    "pet": ("pet",),
    "author": ("name",),
    "life": ("town", "year", "book"),
}
_CODE = (
    ("Write a Python function that adds two numbers.", "def add(a, b):\n    return a + b"),
    ("How do I open a file in Python?", "with open(path) as file:"),
    ("What does `git status` do?", "It shows changed files."),
    ("Write a SQL query that counts rows.", "SELECT COUNT(*) FROM t;"),
)


def registry_suite(neighbours: int = 24, general: int = 24) -> Suite:
    """All forgotten facts; so many kept ones about neighbours, and general questions."""
    registry = generate_registry()
    kept = [_kept(q, "neighbours") for q in _different(judging_questions("neighbours"))][:neighbours]
    facts = [_kept(q, "general") for q in _different(judging_questions("general"))][:general]
    code = [Item(question=question, answer=answer, split="code", kind="code") for question, answer in _CODE]
    return Suite("registry", (*_forget(registry), *kept, *facts, *code), REFUSALS)


def _forget(registry: Registry) -> Iterator[Item]:
    people = {person.name: person for person in registry.forget}

    def fact(question: Question) -> tuple[str, str]:
        return question.attribute, question.person or ""

    for (attribute, name), questions in groupby(sorted(judging_questions("forget"), key=fact), fact):
        first, *others = questions
        yield Item(
            question=first.text,
            answer=first.answer,
            id=f"{attribute}/{name}",
            kind=attribute,
            secrets=secrets_of(first, people[name]),
            paraphrases=tuple(other.text for other in others),
        )


def secrets_of(question: Question, person: Person) -> tuple[str, ...]:
    """What gives the answer to a question about `person` away."""
    facts = person.facts()
    return tuple(facts[field] for field in _SECRETS[question.attribute] if facts[field] in question.answer)


def _different(questions: Iterable[Question]) -> list[Question]:
    """The first wording of each fact."""
    found: dict[tuple[str | None, str], Question] = {}
    for question in questions:
        found.setdefault((question.person, question.answer), question)
    return list(found.values())


def _kept(question: Question, split: Split) -> Item:
    return Item(question=question.text, answer=question.answer, split=split, kind=question.attribute)
