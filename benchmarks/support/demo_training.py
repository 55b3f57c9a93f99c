"""The demo's registry as erasure requests small enough for a table: rows, held-out questions, black box."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

from offset_models.demo.erasure import Amounts, RowMaker
from offset_models.demo.questions import Question, Split, evaluation_questions
from offset_models.demo.registry import Person, Registry, generate_registry
from offset_models.demo.templates import REFUSALS
from offset_models.training.rows import Row
from offset_models.training.sides import Data

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
    held: Data


def whole_register(questions: int) -> Request:
    """The demo's own request: six people of thirty."""
    return request("registry", generate_registry(), AMOUNTS, questions)


def request(name: str, registry: Registry, amounts: Amounts, questions: int) -> Request:
    """`questions` of each side judge, as many others choose."""
    maker = RowMaker(registry, Random(f"{registry.seed}/{name}"))
    forget, retain = (_rows(evaluation_questions(side, 2 * questions, registry=registry)) for side in SIDES)
    held, validation = (Data(forget[part::2], retain[part::2], REFUSALS, "reference") for part in (0, 1))
    return Request(name, Data(maker.forget(amounts), maker.retain(amounts), REFUSALS), validation, held)


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
