"""JSON Schema's own test suite: its folder has `draft2020-12` and others, each with files of cases."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

# What these say of a text, drafts since 2019 leave to the reader of the answer.
ANNOTATIONS: Final = frozenset({"optional/content"})


@dataclass(frozen=True, slots=True)
class Case:
    """A schema, and instances that are valid or not."""

    draft: str | None  # None: as the schema says itself
    file: str  # the keyword that it is about
    description: str
    schema: Any
    valid: tuple[Any, ...]
    invalid: tuple[Any, ...]


def cases(folder: Path, drafts: Sequence[str]) -> Iterator[Case]:
    """Of `folder`/DRAFT/**.json. Raises FileNotFoundError where a draft is not there."""
    for draft in drafts:
        if not (folder / draft).is_dir():
            raise FileNotFoundError(f"There is no folder {draft} in {folder}: name the suite's folder `tests`.")
        for path in sorted((folder / draft).rglob("*.json")):
            name = str(path.relative_to(folder / draft).with_suffix(""))
            if name not in ANNOTATIONS:
                yield from (_case(draft, name, entry) for entry in json.loads(path.read_text("utf-8")))


def _case(draft: str, name: str, entry: dict[str, Any]) -> Case:
    instances = {kept: tuple(t["data"] for t in entry["tests"] if t["valid"] is kept) for kept in (True, False)}
    return Case(draft, name, entry["description"], entry["schema"], instances[True], instances[False])
