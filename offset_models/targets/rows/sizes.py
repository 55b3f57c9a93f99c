"""How many rows of each kind: what a run costs in calls and in minutes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Sizes:
    """Rows to forget and rows to retain in training, and of each side to choose and to judge."""

    forget: int = 120
    near: int = 160  # of neighbours
    beside: int = 16  # of neighbours, in texts that name the target too
    general: int = 100  # the package's own
    asked: int = 36  # what people might ask, and what the target shares with others
    choose: int = 48
    judge: int = 60
    per_form: int = 40  # of the target, before they are parted
    per_form_near: int = 3  # of each neighbour
    answer_tokens: int = 24

    @property
    def retain(self) -> int:
        """In training."""
        return self.near + self.beside + self.general + self.asked


SIZES: Final[Mapping[str, Sizes]] = {
    "small": Sizes(70, 80, 10, 50, 20, choose=36, judge=36, per_form=20, per_form_near=2),
    "normal": Sizes(),
    "large": Sizes(280, 340, 40, 200, 80, choose=120, judge=120, per_form=80, per_form_near=5),
}
