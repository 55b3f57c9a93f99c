"""The demo's register as a suite: held-out wordings, wrong answers from other entries, and strangers as non-members."""

from collections.abc import Iterator
from dataclasses import asdict, replace
from random import Random
from typing import Final

from deltaserve.client.evaluation.items import Item, Suite
from deltaserve.client.evaluation.suites import HOLDOUT
from deltaserve.offset_models.demo.pipeline.corpus import answer_of
from deltaserve.offset_models.demo.register.people import (
    DEFAULT_SEED,
    Person,
    Registry,
    Strangers,
    generate_registry,
    others_of,
)
from deltaserve.offset_models.demo.register.questions import SPLITS, Question, Split, judging_questions
from deltaserve.offset_models.demo.register.templates import ATTRIBUTES, Attribute, held_out_questions

WRONG_ANSWERS: Final = 5
STRANGERS: Final = 40
DEFAULT_LIMIT: Final = 60  # of the hundreds of wordings of each split


def registry_suite(limit: int | None = None, registry: Registry | None = None) -> Suite:
    """At most `limit` (default: DEFAULT_LIMIT) questions of each split about the register that the demo ships."""
    registry = registry or generate_registry(DEFAULT_SEED)
    limit = limit or DEFAULT_LIMIT
    items = [item for split in SPLITS for item in _split(split, limit, registry)]
    return Suite("registry", (*items, *_holdout(limit, registry)))


def _split(split: Split, limit: int, registry: Registry) -> Iterator[Item]:
    people = {person.name: person for person in registry.people}
    for index, question in enumerate(judging_questions(split, limit, registry=registry)):
        person = people.get(question.person or "")
        yield _plain(split, index, question) if person is None else _about(split, index, question, person, registry)


def _plain(split: str, index: int, question: Question) -> Item:
    return Item(split, index, question.text, question.answer)


def _about(split: str, index: int, question: Question, person: Person, registry: Registry) -> Item:
    attribute = next(attribute for attribute in ATTRIBUTES if attribute.name == question.attribute)
    paraphrase = _reworded(person, attribute)
    others = Random(f"{registry.seed}/{split}/{index}").sample(registry.people, len(registry.people))
    # What the question names stays, so that only the fact asked for is somebody else's.
    kept = {name: value for name, value in asdict(paraphrase).items() if str(value) in question.text}
    told = [answer_of(replace(other, **{**kept, "wording": paraphrase.wording}), attribute) for other in others]
    right = answer_of(paraphrase, attribute)
    wrong = tuple(dict.fromkeys(text for text in told if text != right))
    return Item(split, index, question.text, question.answer, right, wrong[:WRONG_ANSWERS])


def _reworded(person: Person, attribute: Attribute) -> Person:
    """The same person, whose fact is told in the next of the attribute's wordings."""
    place, count = ATTRIBUTES.index(attribute), len(attribute.answers)
    told = (person.wording >> place) % count
    return replace(person, wording=((told + 1) % count) << place)


def _holdout(limit: int, registry: Registry) -> Iterator[Item]:
    """Questions about people who are in no register, answered as if one had them: what a member is told from."""
    draw = Random(f"{registry.seed}/{HOLDOUT}")
    strangers = Strangers(registry, draw, others_of(registry))
    people = [strangers.person() for _ in range(STRANGERS)]
    for index in range(limit):
        person, attribute = draw.choice(people), draw.choice(ATTRIBUTES)
        text = draw.choice(held_out_questions(attribute)).format(**person.facts())
        yield Item(HOLDOUT, index, text, answer_of(person, attribute))
