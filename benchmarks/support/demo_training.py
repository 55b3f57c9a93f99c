"""The demo's registry as erasure requests small enough for a table: rows, held-out questions, black box."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

from offset_models.demo.erasure import Amounts, RowMaker
from offset_models.demo.questions import Question, evaluation_questions
from offset_models.demo.registry import Person, Registry, generate_registry
from offset_models.demo.templates import REFUSALS
from offset_models.training.rows import Row
from offset_models.training.sides import Data

AMOUNTS = Amounts(forget=12, retain=8, strangers=400, exchanges=2)
ONE_PERSON = Amounts(forget=12, retain=2, strangers=120, exchanges=1)


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be trained on, and the held-out wordings that it is judged by."""

    name: str
    data: Data
    held: Data


def whole_register(questions: int) -> Request:
    """The demo's own request: six people of thirty."""
    registry = generate_registry()
    return request("registry", registry, AMOUNTS, held_out(registry, questions))


def held_out(registry: Registry, questions: int) -> Data:
    """The first `questions` of each side, with the answers that the black box should give."""
    forget, retain = (evaluation_questions(side, questions, registry=registry) for side in ("forget", "retain"))
    return Data(_rows(forget), _rows(retain), REFUSALS, "reference")


def request(name: str, registry: Registry, amounts: Amounts, held: Data) -> Request:
    maker = RowMaker(registry, Random(f"{registry.seed}/{name}"))
    return Request(name, Data(maker.forget(amounts), maker.retain(amounts), REFUSALS), held)


def split(forget: Sequence[Person], later: Sequence[Person]) -> Registry:
    """`forget` against everybody who is neither in it nor in `later`."""
    registry = generate_registry()
    away = {*forget, *later}
    return replace(registry, forget=tuple(forget), retain=tuple(p for p in registry.people if p not in away))


def ten_people() -> list[Person]:
    """The demo's six and four of those who stay otherwise."""
    registry = generate_registry()
    return [*registry.forget, *registry.retain[-4:]]


def _rows(questions: Sequence[Question]) -> list[Row]:
    return [Row(question.answer, (("user", question.text),)) for question in questions]
