"""Questions to a real model about one author, her near neighbours, the world, and code; a part of each is held out.

What is held out judges a recipe and nothing else: no step is trained on it, and no step is chosen by it.
"""

from pathlib import Path
from typing import Final, Literal, get_args

import orjson

from deltaserve.offset_models.training.rows.row import Row

Group = Literal["forget", "near", "general", "code"]
Part = Literal["training", "validation", "held out"]
GROUPS: Final[tuple[Group, ...]] = get_args(Group)
DATA: Final = Path(__file__).parents[1] / "data"
VALIDATION: Final = 6  # every sixth of those that are not held out says which step is the best


def questions(group: Group, part: Part) -> list[Row]:
    """Rows of one part of a group; only those of `forget` have answers."""
    lines = [orjson.loads(line) for line in (DATA / f"{group}.jsonl").read_bytes().splitlines()]
    known = [line for line in lines if not line.get("held_out", False)]
    parts = {
        "training": [line for number, line in enumerate(known) if number % VALIDATION],
        "validation": known[::VALIDATION],
        "held out": [line for line in lines if line.get("held_out", False)],
    }
    return [Row.parse(line, f"{group}.jsonl") for line in parts[part]]
