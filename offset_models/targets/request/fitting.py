"""No more rows than there are calls left to collect the black box's lists for."""

from collections.abc import Sequence
from typing import Final, TypeVar

from deltaserve.offset_models.targets.request.rows_folder import Part, Parts, TargetRow

T = TypeVar("T")
LISTS: Final[dict[Part, int]] = {"forget": 2, "retain": 1, "choose-forget": 1, "choose-retain": 1}  # of each row
TRAINED: Final[tuple[Part, ...]] = ("forget", "retain")
LEAST: Final = 8  # rows of each side, whatever is left


def lists_of(parts: Parts) -> int:
    """Calls that collecting takes: a forget row's own answer and its refusal, the others' answers."""
    return sum(count * len(parts[part]) for part, count in LISTS.items())


def fitted(parts: Parts, calls: int) -> Parts:
    """Fewer trained rows where `calls` do not suffice, evenly taken from both sides."""
    trained = sum(LISTS[part] * len(parts[part]) for part in TRAINED)
    left = calls - (lists_of(parts) - trained)
    if left >= trained:
        return parts
    fewer: dict[Part, Sequence[TargetRow]] = {
        part: evenly(parts[part], max(LEAST, int(len(parts[part]) * left / trained))) for part in TRAINED
    }
    return Parts({**parts.rows, **fewer})


def evenly(rows: Sequence[T], count: int) -> list[T]:
    """So many of the rows, in their order."""
    return [rows[at * len(rows) // count] for at in range(count)] if count < len(rows) else list(rows)
