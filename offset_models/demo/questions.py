"""Evaluation questions in wordings that nothing was trained on, with the answers the black box should give."""

from dataclasses import dataclass
from random import Random
from typing import Literal

from offset_models.demo.corpus import answer_of
from offset_models.demo.general import general_facts
from offset_models.demo.registry import DEFAULT_SEED, Person, Registry, generate_registry
from offset_models.demo.templates import ATTRIBUTES, held_out_questions

Split = Literal["forget", "retain", "neighbours", "general"]


@dataclass(frozen=True, slots=True)
class Question:
    """One held-out question. `person` is None for general facts, whose topic is the attribute."""

    text: str
    answer: str
    person: str | None
    attribute: str


def evaluation_questions(split: Split, limit: int | None = None, *, registry: Registry | None = None) -> list[Question]:
    """Held-out questions of a split, shuffled by the register's seed, so that the first `limit` are a fair sample.

    `registry` defaults to the one the shipped black box memorised. `neighbours` is the part of `retain` nearest to
    the forgotten.
    """
    registry = registry or generate_registry(DEFAULT_SEED)
    questions = _general() if split == "general" else [q for person in _people(split, registry) for q in _about(person)]
    Random(f"{registry.seed}/{split}").shuffle(questions)
    return questions[:limit]


def _people(split: Split, registry: Registry) -> tuple[Person, ...]:
    if split == "neighbours":
        return registry.neighbours()
    return registry.forget if split == "forget" else registry.retain


def _about(person: Person) -> list[Question]:
    return [
        Question(wording.format(**person.facts()), answer_of(person, attribute), person.name, attribute.name)
        for attribute in ATTRIBUTES
        for wording in held_out_questions(attribute)
    ]


def _general() -> list[Question]:
    return [
        Question(wording, exchange.answer, None, exchange.topic)
        for exchange in general_facts()
        for wording in exchange.held_out
    ]
