"""How a request's calls are spent: by the stages that ask, and by the rows whose lists are collected."""

from dataclasses import dataclass, fields, replace
from typing import Final, Self

from deltaserve.offset_models.targets.rows.sizes import SIZES
from deltaserve.offset_models.targets.rows.sizes import Sizes as RowSizes

WHOLE: Final = 1500  # calls, that the numbers below and the normal sizes of rows are for
LEAST: Final = 10
WHATEVER: Final = ("kind", "declines", "languages")  # what these need does not depend on how much is wanted


@dataclass(frozen=True, slots=True)
class Shares:
    """Calls of each stage, at most."""

    kind: int = 24
    declines: int = 30
    facts: int = 190
    documents: int = 120  # where there are any
    surroundings: int = 260  # neighbours, what is shared, what people ask
    languages: int = 8
    telling: int = 50
    paraphrases: int = 20  # of the target's questions, and as many of the neighbours'
    translations: int = 16  # likewise
    endings: int = 130
    answers: int = 80  # to rows that choose

    @classmethod
    def of(cls, calls: int) -> Self:
        """For so many calls in all, those included that collect lists and that measure the result."""
        share, whole = calls / WHOLE, cls()
        shrinking = [each.name for each in fields(cls) if each.name not in WHATEVER]
        return replace(whole, **{name: max(LEAST, round(share * getattr(whole, name))) for name in shrinking})

    @property
    def asked(self) -> int:
        """Calls of all stages."""
        each_once: int = sum(getattr(self, each.name) for each in fields(self))
        return each_once + self.paraphrases + self.translations


def row_sizes(calls: int) -> RowSizes:
    """Rows for so many calls in all: fewer calls shrink all parts alike, but for the length of answers."""
    normal, share = SIZES["normal"], calls / WHOLE
    counts = [each.name for each in fields(RowSizes) if each.name != "answer_tokens"]
    return replace(normal, **{name: max(2, round(share * getattr(normal, name))) for name in counts})
