"""Questions to a real model about one author, her near neighbours, the world, and code; a part of each is held out."""

from pathlib import Path
from typing import Final, Literal, get_args

import orjson

from offset_models.training.rows import Row

Group = Literal["forget", "near", "general", "code"]
GROUPS: Final[tuple[Group, ...]] = get_args(Group)
DATA: Final = Path(__file__).parents[1] / "data"


def questions(group: Group, *, held_out: bool) -> list[Row]:
    """Rows of one half of a group; only those of `forget` have answers."""
    lines = [orjson.loads(line) for line in (DATA / f"{group}.jsonl").read_bytes().splitlines()]
    return [Row.parse(line, f"{group}.jsonl") for line in lines if line.get("held_out", False) is held_out]
