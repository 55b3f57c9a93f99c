"""The demo's registry as erasure requests small enough for a table: rows, held-out questions, black box."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random

from deltaserve.client.evaluation.data.items import Item
from deltaserve.client.evaluation.data.registry_suite import secrets_of
from deltaserve.offset_models.demo.register.erasure import Amounts, RowMaker
from deltaserve.offset_models.demo.register.people import Person, Register, generate_register
from deltaserve.offset_models.demo.register.questions import Question, Split, evaluation_questions, row_of
from deltaserve.offset_models.demo.register.templates import REFUSALS
from deltaserve.offset_models.training.rows.dataset import Data
from deltaserve.offset_models.training.rows.row import Row

SIDES: tuple[Split, ...] = ("forget", "retain")
AMOUNTS = Amounts()  # the demo's own
ONE_PERSON = Amounts(forget=24, retain=4, strangers=200, exchanges=2)
MORE_PEOPLE = Amounts(forget=24, retain=8, strangers=400, exchanges=4)


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be trained on; held-out wordings that choose step, strength and gate, and others that judge them."""

    name: str
    data: Data
    validation: Data
    held: Mapping[Split, Sequence[Row]]
    facts: Mapping[str, Item]  # by the text of a question that is to be forgotten: what gives its answer away


@dataclass(frozen=True, slots=True)
class Questions:
    """How many held-out questions. Of those that must stay there are many more, and each of them is rarely lost."""

    choosing: int
    choosing_retain: int
    judging: int  # of each side

    def choosing_of(self, side: Split) -> int:
        return self.choosing_retain if side == "retain" else self.choosing


def whole_register(asked: Questions) -> Request:
    """The demo's own request: six people of thirty."""
    return request("registry", generate_register(), AMOUNTS, asked)


def request(name: str, registry: Register, amounts: Amounts, asked: Questions) -> Request:
    """Every second of the first questions chooses; all others judge, as many as are asked for."""
    maker = RowMaker(registry, Random(f"{registry.seed}/{name}"))
    asked_of = {side: evaluation_questions(side, registry=registry) for side in SIDES}
    pools = {side: [row_of(question) for question in questions] for side, questions in asked_of.items()}
    mixed = {side: 2 * asked.choosing_of(side) for side in SIDES}
    forget, retain = (pools[side][1 : mixed[side] : 2] for side in SIDES)
    validation = Data(forget, retain, REFUSALS, "reference")
    held = {s: [*pool[: mixed[s] : 2], *pool[mixed[s] :]][: asked.judging] for s, pool in pools.items()}
    data = Data(maker.forget(amounts), maker.retain(amounts), REFUSALS)
    return Request(name, data, validation, held, facts_of(asked_of["forget"], registry))


def facts_of(questions: Sequence[Question], registry: Register) -> dict[str, Item]:
    """What gives each answer away, by the text of its question."""
    people = {person.name: person for person in registry.people}
    return {
        question.text: Item(
            question=question.text, answer=question.answer, secrets=secrets_of(question, people[question.person])
        )
        for question in questions
        if question.person
    }


def split(forget: Sequence[Person], later: Sequence[Person]) -> Register:
    """`forget` against everybody who is neither in it nor in `later`."""
    registry = generate_register()
    away = {*forget, *later}
    return replace(registry, forget=tuple(forget), retain=tuple(p for p in registry.people if p not in away))


def ten_people() -> list[Person]:
    """The demo's six and four of those who stay otherwise."""
    registry = generate_register()
    return [*registry.forget, *registry.retain[-4:]]
