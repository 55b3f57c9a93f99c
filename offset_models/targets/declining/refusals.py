"""The refusals of one request: the black box's own where it has some, else plain ones of the package."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from deltaserve.offset_models.targets.kinds.attribute import Attribute

MOST_WORDS: Final = 11  # some 14 tokens: each costs calls and time in training


@dataclass(frozen=True, slots=True)
class Refusals:
    """`chat` are whole answers, best first. `text` is what running text goes on with, by the attribute's name."""

    chat: tuple[str, ...]
    text: Mapping[str, str] = field(default_factory=dict)
    own: bool = False  # whether `chat` begins with the black box's own

    def continuing(self, attribute: Attribute) -> str:
        """What a sentence about nobody goes on with behind the attribute's beginning, with the space before it."""
        return " " + self.text.get(attribute.name, attribute.unknown)


def is_short(text: str) -> bool:
    return 0 < len(text.split()) <= MOST_WORDS
