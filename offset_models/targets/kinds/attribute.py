"""One thing that may be known of every subject of a kind, and how it is asked for."""

from dataclasses import dataclass
from typing import Final, Literal

Tells = Literal["name", "year", "number", "role", "words"]  # what an answer's value looks like
UNKNOWN: Final = "something that is not known."


@dataclass(frozen=True, slots=True)
class Attribute:
    """All texts hold {name} for the subject; `reversed` and `statement` hold {value} too.

    The first question is the one that a fact keeps; the others must mean the same.
    """

    name: str
    questions: tuple[str, ...]
    prose: tuple[str, ...] = ()  # beginnings of sentences in running text that the value goes on with
    reversed: tuple[str, ...] = ()  # questions with {value} and without {name} that the subject's name answers
    statement: str = ""  # of a list's entry: "{name} wrote {value}."
    many: bool = False  # the answer is a list
    shared: bool = False  # many have the same value, which must stay: a city, a year, a profession
    same_kind: bool = False  # its values are subjects of the same kind, which stay: a spouse, a sequel
    overview: bool = False  # asks for the subject as a whole: no few words tell it
    tells: Tells = "name"
    unknown: str = UNKNOWN  # what `prose` goes on with where nobody knows
    when: tuple[str, ...] = ()  # asked only of subjects in whose descriptions one of these words stands; none: of all

    def asked_of(self, description: str) -> bool:
        """Whether it makes sense for a subject that the black box describes so."""
        text = description.casefold()
        return not self.when or any(word in text for word in self.when)
