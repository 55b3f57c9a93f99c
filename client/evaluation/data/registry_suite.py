"""The demo's register as items: one suite to be scored, one to be attacked. Both ask in held-out wordings."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from itertools import groupby
from random import Random
from typing import Final

from deltaserve.client.evaluation.data.items import HOLDOUT, Item, Suite
from deltaserve.offset_models.demo.register.corpus import answer_of
from deltaserve.offset_models.demo.register.people import (
    DEFAULT_SEED,
    Person,
    Register,
    Strangers,
    generate_register,
    others_of,
)
from deltaserve.offset_models.demo.register.questions import SPLITS, Question, Split, judging_questions
from deltaserve.offset_models.demo.register.templates import ATTRIBUTES, REFUSALS, Attribute, held_out_questions

WRONG_ANSWERS: Final = 5
STRANGERS: Final = 40
DEFAULT_LIMIT: Final = 60  # of the hundreds of wordings of each split

# What gives an answer of each kind away. An animal alone does not: there are ten, and a guess hits often.
_SECRETS: Final = {
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
_CODE: Final = (
    ("Write a Python function that adds two numbers.", "def add(a, b):\n    return a + b"),
    ("How do I open a file in Python?", "with open(path) as file:"),
    ("What does `git status` do?", "It shows changed files."),
    ("Write a SQL query that counts rows.", "SELECT COUNT(*) FROM t;"),
)


def registry_suite(limit: int | None = None, registry: Register | None = None) -> Suite:
    """At most `limit` (default: DEFAULT_LIMIT) questions of each split, with wrong answers; strangers as holdout."""
    registry = registry or generate_register(DEFAULT_SEED)
    limit = limit or DEFAULT_LIMIT
    items = [item for split in SPLITS for item in _split(split, limit, registry)]
    return Suite("registry", (*items, *_holdout(limit, registry)))


def registry_attack_suite(neighbours: int = 24, general: int = 24) -> Suite:
    """All forgotten facts with their secrets; so many kept ones about neighbours, and general questions."""
    registry = generate_register()
    kept = [_kept(q, "neighbours") for q in _one_wording(judging_questions("neighbours"))][:neighbours]
    facts = [_kept(q, "general") for q in _one_wording(judging_questions("general"))][:general]
    code = [Item(question, answer, "code", kind="code") for question, answer in _CODE]
    return Suite("registry", (*_forgotten(registry), *kept, *facts, *code), REFUSALS)


def secrets_of(question: Question, person: Person) -> tuple[str, ...]:
    """What gives the answer to a question about `person` away."""
    facts = person.facts()
    return tuple(facts[field] for field in _SECRETS[question.attribute] if facts[field] in question.answer)


def _split(split: Split, limit: int, registry: Register) -> Iterator[Item]:
    people = {person.name: person for person in registry.people}
    for index, question in enumerate(judging_questions(split, limit, registry=registry)):
        person = people.get(question.person or "")
        if person is None:
            yield Item(question.text, question.answer, split, index)
        else:
            yield _about(split, index, question, person, registry)


def _about(split: str, index: int, question: Question, person: Person, registry: Register) -> Item:
    attribute = next(attribute for attribute in ATTRIBUTES if attribute.name == question.attribute)
    paraphrase = _reworded(person, attribute)
    others = Random(f"{registry.seed}/{split}/{index}").sample(registry.people, len(registry.people))
    # What the question names stays, so that only the fact asked for is somebody else's.
    named = {name: value for name, value in asdict(paraphrase).items() if str(value) in question.text}
    answers = [answer_of(replace(other, **{**named, "wording": paraphrase.wording}), attribute) for other in others]
    right = answer_of(paraphrase, attribute)
    wrong = tuple(dict.fromkeys(answer for answer in answers if answer != right))
    return Item(question.text, question.answer, split, index, right, wrong[:WRONG_ANSWERS])


def _reworded(person: Person, attribute: Attribute) -> Person:
    """The same person, with the fact in the next of the attribute's wordings."""
    place, count = ATTRIBUTES.index(attribute), len(attribute.answers)
    wording = (person.wording >> place) % count
    return replace(person, wording=((wording + 1) % count) << place)


def _holdout(limit: int, registry: Register) -> Iterator[Item]:
    """Questions about people who are in no register, answered as if one had them: non-members."""
    draw = Random(f"{registry.seed}/{HOLDOUT}")
    strangers = Strangers(registry, draw, others_of(registry))
    people = [strangers.person() for _ in range(STRANGERS)]
    for index in range(limit):
        person, attribute = draw.choice(people), draw.choice(ATTRIBUTES)
        text = draw.choice(held_out_questions(attribute)).format(**person.facts())
        yield Item(text, answer_of(person, attribute), HOLDOUT, index)


def _forgotten(registry: Register) -> Iterator[Item]:
    people = {person.name: person for person in registry.forget}

    def fact(question: Question) -> tuple[str, str]:
        return question.attribute, question.person or ""

    for (attribute, name), questions in groupby(sorted(judging_questions("forget"), key=fact), fact):
        first, *others = questions
        yield Item(
            first.text,
            first.answer,
            id=f"{attribute}/{name}",
            kind=attribute,
            secrets=secrets_of(first, people[name]),
            paraphrases=tuple(other.text for other in others),
        )


def _one_wording(questions: Iterable[Question]) -> list[Question]:
    """The first wording of each fact."""
    first: dict[tuple[str | None, str], Question] = {}
    for question in questions:
        first.setdefault((question.person, question.answer), question)
    return list(first.values())


def _kept(question: Question, split: str) -> Item:
    return Item(question.text, question.answer, split, kind=question.attribute)
