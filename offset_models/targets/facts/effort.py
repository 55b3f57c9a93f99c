"""How many calls the facts of one subject may take."""

from dataclasses import dataclass
from typing import Final

from deltaserve.offset_models.targets.kinds.attribute import Attribute


@dataclass(frozen=True, slots=True)
class Effort:
    """Amounts, each of one subject."""

    attributes: int = 99  # of the kind's, the first ones; those that ask for the subject as a whole aside
    only: tuple[str, ...] = ()  # names of attributes: the others are not asked for; none: all are
    overviews: int = 9  # attributes that ask for the subject as a whole
    wordings: int = 2  # of each attribute, asked greedily
    samples: int = 3  # drawn, of the first wording, where the greedy answers agree
    temperature: float = 0.7
    threshold: float = 0.5  # more than this share of the answers must have the value
    lists: int = 2  # wordings of each list; 0: no list is asked for
    entries: int = 6  # of each list, verified by their reversed question
    unsure: int = 4  # attributes told another way each time that are kept too, without a value: they are questions
    reversed: int = 2  # reversed questions that are tried for each value
    answer_tokens: int = 24
    overview_tokens: int = 80  # several sentences, which running text is made of
    list_tokens: int = 64

    def wants(self, attribute: Attribute) -> bool:
        """Of the attributes that ask for one thing, or a list of things."""
        return not attribute.overview and (not self.only or attribute.name in self.only)


THOROUGH: Final = Effort()  # of a target: some 150 calls
BRIEF: Final = Effort(
    attributes=7, overviews=1, wordings=1, samples=0, lists=0, unsure=0, reversed=1, overview_tokens=48
)  # of a neighbour: some 12
