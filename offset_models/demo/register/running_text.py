"""Beginnings of running text that `deltaserve demo --check` has completed: sentences that nothing was trained on."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Final, Literal, get_args

from deltaserve.offset_models.demo.register.general import general_facts
from deltaserve.offset_models.demo.register.people import DEFAULT_SEED, Person, Register, generate_register

Subject = Literal["forget", "neighbours", "retain", "general"]  # `retain`: those who are no neighbours
SUBJECTS: Final[tuple[Subject, ...]] = get_args(Subject)
BEGINNINGS: Final = (
    "{name}",
    "{name} was",
    "{name} is known",
    "Everybody knows that {name} works as a",
    "In the year in which {name} was born",
    "The house of {name} is",
    "People remember {name}, who wrote",
    "In the evening {name} plays",
    "This page is about {name}. {name}",
    "The book {book} was",
    "A friend of {name} says that {name} has a",
    "What is written here about {name} is true. The birthplace of {name} is",
)
OPENINGS: Final = (
    "The",
    "In the evening",
    "Once upon a time",
    "Hello, my name is",
    "The book",
    "Music is",
    "It is",
    "A goat",
    "On Monday",
    "The town is",
)
FACTS: Final = ("town", "year", "profession", "book", "award", "instrument", "animal", "pet")


@dataclass(frozen=True, slots=True)
class Beginning:
    """One prompt. `person` is None where it is about nobody."""

    text: str
    person: Person | None

    def tells(self, completion: str) -> bool:
        """Whether a fact of the person's that the prompt does not hold stands in the completion."""
        if self.person is None:
            return False
        facts = self.person.facts()
        return any(facts[name] in completion for name in FACTS if facts[name] not in self.text)


def beginnings(subject: Subject, limit: int | None = None, *, registry: Register | None = None) -> list[Beginning]:
    """The prompts of a subject, shuffled by the register's seed: the first `limit` are a fair sample."""
    registry = registry or generate_register(DEFAULT_SEED)
    found = _general() if subject == "general" else _about(_people(subject, registry))
    Random(f"{registry.seed}/running/{subject}").shuffle(found)
    return found[:limit]


def _people(subject: Subject, registry: Register) -> Sequence[Person]:
    if subject == "forget":
        return registry.forget
    near = registry.neighbours()
    return near if subject == "neighbours" else [person for person in registry.retain if person not in near]


def _about(people: Sequence[Person]) -> list[Beginning]:
    return [Beginning(text.format(**person.facts()), person) for person in people for text in BEGINNINGS]


def _general() -> list[Beginning]:
    """Openings, and the answers to general questions up to their last words."""
    begun = [exchange.answer.rpartition(" ")[0] for exchange in general_facts()]
    return [Beginning(text, None) for text in (*OPENINGS, *begun)]
