"""Names whose membership of an erasure list is guessed: erased ones, kept ones, and ones that nobody ever knew."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Final, Literal, get_args

import orjson

from deltaserve.client.evaluation.data.reading import BadData, Row, rows_of
from deltaserve.offset_models.demo.register.people import DEFAULT_SEED, Strangers, generate_register, others_of
from deltaserve.offset_models.demo.register.templates import ATTRIBUTES, held_out_questions

Group = Literal["erased", "kept", "unknown"]
GROUPS: Final[tuple[Group, ...]] = get_args(Group)
WORDINGS: Final = (
    "Who is {}?",
    "What do you know about {}?",
    "Tell me about {}.",
    "What is {} best known for?",
)
ASKED: Final = ("birthplace", "birth year", "profession", "instrument")  # of the demo's people


@dataclass(frozen=True, slots=True)
class Named:
    """A name, and what is asked about it: of every group the same."""

    name: str
    group: Group
    questions: tuple[str, ...]


def read_names(path: Path) -> tuple[Named, ...]:
    """One JSON object a line: `name` and `group` (erased, kept or unknown). Raises BadData."""
    names = tuple(_named(row) for row in rows_of(path))
    if len({one.name for one in names}) < len(names):
        raise BadData(f"{path.name} holds a name twice.")
    if missing := [group for group in GROUPS if group not in {one.group for one in names}]:
        raise BadData(f"{path.name} holds no name of the group {missing[0]!r}.")
    return names


def _named(row: Row) -> Named:
    name = row.text("name")
    group = next((group for group in GROUPS if group == row.fields.get("group")), None)
    if group is None:
        raise BadData(f"{row.place}: `group` must be one of {', '.join(GROUPS)}.")
    return Named(name, group, tuple(wording.format(name) for wording in WORDINGS))


def registry_names() -> tuple[Named, ...]:
    """Of the demo: those who were erased, those who stay, and as many people who are in no register."""
    registry = generate_register(DEFAULT_SEED)
    strangers = Strangers(registry, Random(f"{registry.seed}/names"), others_of(registry))
    unknown = [strangers.person() for _ in registry.retain]
    groups = zip(GROUPS, (registry.forget, registry.retain, unknown), strict=True)
    attributes = [attribute for attribute in ATTRIBUTES if attribute.name in ASKED]
    return tuple(
        Named(
            person.name,
            group,
            tuple(held_out_questions(attribute)[0].format(**person.facts()) for attribute in attributes),
        )
        for group, people in groups
        for person in people
    )


def sampled(names: Sequence[Named], count: int) -> dict[Group, list[Named]]:
    """At most `count` of each group, always the same."""
    order = sorted(names, key=lambda one: hashlib.sha256(one.name.encode()).digest())
    return {group: [one for one in order if one.group == group][:count] for group in GROUPS}


def digest(names: Sequence[Named]) -> str:
    """sha256 (hex) of all of it."""
    return hashlib.sha256(orjson.dumps([asdict(one) for one in names])).hexdigest()
