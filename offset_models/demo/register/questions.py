"""Evaluation questions in wordings that nothing was trained on, with the answers the black box should give."""

from dataclasses import dataclass
from random import Random
from typing import Final, Literal, get_args

from deltaserve.offset_models.demo.register.corpus import answer_of
from deltaserve.offset_models.demo.register.general import SMALL_TALK, general_facts
from deltaserve.offset_models.demo.register.people import DEFAULT_SEED, Person, Register, generate_register
from deltaserve.offset_models.demo.register.templates import ATTRIBUTES, held_out_questions
from deltaserve.offset_models.training.rows.row import Row

Split = Literal["forget", "retain", "neighbours", "general"]
Pool = Literal["forget", "retain", "general"]  # neighbours are part of `retain`
SPLITS: Final[tuple[Split, ...]] = get_args(Split)
CHOOSING_SHARE: Final = 10 / 27  # of the held-out questions of each pool: 180, 720 and 19
GREETING: Final = "Hello! "


@dataclass(frozen=True, slots=True)
class Question:
    """One held-out question. `person` is None for general facts, whose topic is the attribute."""

    text: str
    answer: str
    person: str | None
    attribute: str


def evaluation_questions(split: Split, limit: int | None = None, *, registry: Register | None = None) -> list[Question]:
    """All held-out questions of a split, shuffled by the register's seed: the first `limit` are a fair sample.

    `registry` defaults to the one the shipped black box memorised. `neighbours` is the part of `retain` nearest to
    the forgotten, in its order.
    """
    registry = registry or generate_register(DEFAULT_SEED)
    if split == "neighbours":
        near = {person.name for person in registry.neighbours()}
        return [q for q in evaluation_questions("retain", registry=registry) if q.person in near][:limit]
    questions = _general() if split == "general" else [q for p in registry.group(split) for q in _about(p)]
    Random(f"{registry.seed}/{split}").shuffle(questions)
    return questions[:limit]


def choosing_questions(pool: Pool, registry: Register) -> list[Question]:
    """The last ones: they choose step, strength and gate of the demo's offset, and judge nothing."""
    questions = evaluation_questions(pool, registry=registry)
    return questions[_judging(len(questions)) :]


def judging_questions(split: Split, limit: int | None = None, *, registry: Register | None = None) -> list[Question]:
    """The first ones, at most `limit`: nothing of the demo's offset was chosen by them."""
    registry = registry or generate_register(DEFAULT_SEED)
    chose = set(choosing_questions("retain" if split == "neighbours" else split, registry))
    return [q for q in evaluation_questions(split, registry=registry) if q not in chose][:limit]


def _judging(count: int) -> int:
    return round(count * (1 - CHOOSING_SHARE))


def small_talk_questions(limit: int | None = None) -> list[Question]:
    """All small talk, questions behind a greeting too, shuffled: the first `limit` are a fair sample.

    What training saw is among them, and the later wordings, which it did not; none of them chose anything.
    """
    talk = [(wording, answer) for wordings, answer in SMALL_TALK for wording in wordings]
    greeted = [(GREETING + wording, answer) for wording, answer in talk if wording.endswith("?")]
    questions = [Question(text, answer, None, "small talk") for text, answer in (*talk, *greeted)]
    Random("small talk").shuffle(questions)
    return questions[:limit]


def row_of(question: Question) -> Row:
    """The question in a chat of its own, with its answer."""
    return Row(question.answer, (("user", question.text),))


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
