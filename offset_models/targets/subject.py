"""What questions are about: the target of an erasure request, or something of its kind that must stay."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, Literal, get_args

Kind = Literal["person", "character", "work", "organisation", "product", "place", "event", "topic"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)


@dataclass(frozen=True)
class Subject:
    """A thing with a name. `aliases` mean it too: a surname, an acronym, a title without its article."""

    name: str
    kind: Kind
    aliases: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name, *self.aliases)

    def named_in(self, text: str) -> bool:
        """Whether one of its names stands in the text, as whole words, in any case."""
        return self._pattern.search(text) is not None

    def places_in(self, text: str) -> list[tuple[int, int]]:
        """Where its names begin and end in the text; of two at one place the longer."""
        return [found.span() for found in self._pattern.finditer(text)]

    def replaced_in(self, text: str, by: str) -> str:
        """The text with `by` wherever one of its names stands."""
        return self._pattern.sub(lambda _: by, text)

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        names = sorted(self.names, key=len, reverse=True)
        return re.compile("|".join(rf"(?<!\w){re.escape(name)}(?!\w)" for name in names), re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Fact:
    """Something that the black box says of a subject whenever it is asked, true or not."""

    subject: Subject
    attribute: str  # of the subject's kind: "birthplace"
    question: str  # as it was asked
    answer: str  # the black box's sentence
    value: str  # the words of the answer that tell it: "Augusta"; empty where no few words do
    support: float  # share of the samples that agree with the answer, 0 to 1
    reversed_question: str = ""  # one that the black box answers with the subject's name; empty: there is none
    text: str = ""  # of what is said of the subject as a whole: all whole sentences, where the answer is their first


@dataclass(frozen=True, slots=True)
class Known:
    """A subject with what the black box knows of it."""

    subject: Subject
    facts: tuple[Fact, ...] = field(default=())
    why: str = ""  # of a neighbour, for people: "shares the birthplace", "named beside the target"


def facts_of(known: Iterable[Known]) -> list[Fact]:
    return [fact for each in known for fact in each.facts]
