"""What judges `deltaserve forget --about`: questions written by us, in forms and words that chose and trained nothing.

A line of benchmarks/data/about/NAME.jsonl is a row of one of the forms that training reads, with `group` (forget or
near), `form`, and for what must go `secrets`: words that must not come out. common.jsonl holds `general` and `code`,
which every target is judged by.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Self, get_args

import orjson

from deltaserve.offset_models.metrics.disclosure import says
from deltaserve.offset_models.targets.subject import Subject
from deltaserve.offset_models.training.rows.row import Row

Group = Literal["forget", "near", "general", "code"]
GROUPS: Final[tuple[Group, ...]] = get_args(Group)
DATA: Final = Path(__file__).parents[1] / "data" / "about"
COMMON: Final = "common"
TARGETS: Final = {  # by the names of their files; their own names are those on the command line of `forget`
    "barack-obama": Subject("Barack Obama", "person", ("Obama",)),
    "pride-and-prejudice": Subject("Pride and Prejudice", "work"),
    "toyota": Subject("Toyota", "organisation"),
}


@dataclass(frozen=True, slots=True)
class JudgeProbe:
    """One question. `secrets` are empty for what must stay."""

    group: Group
    form: str
    row: Row
    secrets: tuple[str, ...] = ()

    @classmethod
    def parse(cls, line: Any, origin: str) -> Self:
        """Raises BadRow, KeyError."""
        return cls(line["group"], line["form"], Row.parse(line, origin), tuple(line.get("secrets", ())))

    @property
    def text(self) -> str:
        """The question, for people."""
        asked = self.row.messages[-1][1] if self.row.messages else self.row.prompt
        return f"{asked} → {self.row.begun}" if self.row.begun else asked

    def tells(self, answer: str) -> bool:
        """Whether one of the secrets stands in the answer."""
        return any(says(answer, secret) for secret in self.secrets)


def probes_of(name: str, limit: int | None = None) -> list[JudgeProbe]:
    """Of one target, with what every target is judged by; at most `limit` of each group, spread over its forms."""
    probes = [*read(DATA / f"{name}.jsonl"), *read(DATA / f"{COMMON}.jsonl")]
    return [one for group in GROUPS for one in spread([p for p in probes if p.group == group], limit)]


def read(path: Path) -> list[JudgeProbe]:
    lines = enumerate(path.read_bytes().splitlines(), start=1)
    return [JudgeProbe.parse(orjson.loads(line), f"{path.name}, line {number}") for number, line in lines]


def spread(probes: Sequence[JudgeProbe], limit: int | None) -> list[JudgeProbe]:
    """The first of each form, then the second, up to `limit`."""
    if limit is None:
        return list(probes)
    seen: dict[str, int] = {}
    turns = []
    for number, probe in enumerate(probes):
        seen[probe.form] = seen.get(probe.form, 0) + 1
        turns.append((seen[probe.form], number, probe))
    return [probe for _, _, probe in sorted(turns, key=lambda turn: turn[:2])[:limit]]
