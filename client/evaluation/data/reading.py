"""Items from files with one JSON object a line. `evaluate` and `leakage` read the same rows."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import orjson

from deltaserve.client.evaluation.data.items import FORGET, HOLDOUT, KEPT_SPLITS, Item
from deltaserve.errors import BadRequest

SUFFIXES: Final = (".jsonl", ".json")
ATTACK_SPLITS: Final = (FORGET, *KEPT_SPLITS)
SPLITS: Final = (*ATTACK_SPLITS, HOLDOUT, "retain", "real_authors", "world_facts")  # names that mean something
_SCORED: Final = frozenset({"question", "answer", "split", "paraphrased_answer", "perturbed_answer", "decoys"})
FIELDS: Final = _SCORED | {"id", "kind", "secrets", "paraphrases"}


class BadData(BadRequest):
    """Data that cannot be evaluated; the message names file and line, never their text."""


def read_items(path: Path, split: str, *, own_splits: bool = False) -> list[Item]:
    """Rows to be scored, all of `split`; with `own_splits` a row that names a known split is of that one.

    Fields that an item does not have are ignored: data sets bring many. Raises BadData.
    """
    return _numbered(_scored(row, row.own_split(split) if own_splits else split) for row in _rows(path))


def read_attack_items(path: Path) -> list[Item]:
    """Rows to be attacked, of the split "forget" unless they name another. Raises BadData for unknown fields too."""
    return _numbered(_attacked(row) for row in _rows(path))


def find_file(folder: Path, stem: str) -> Path | None:
    """STEM.jsonl or STEM.json of a folder; None when it has neither."""
    return next((path for suffix in SUFFIXES if (path := folder / (stem + suffix)).is_file()), None)


def data_files(folder: Path) -> list[Path]:
    """Every file of rows in a folder, by name."""
    return sorted(path for path in folder.glob("*") if path.suffix in SUFFIXES and path.is_file())


@dataclass(frozen=True, slots=True)
class _Row:
    """One JSON object and the place it stands at."""

    fields: Mapping[str, Any]
    place: str

    def own_split(self, default: str) -> str:
        name = self.fields.get("split")
        return name if isinstance(name, str) and name in SPLITS else default

    def text(self, name: str) -> str:
        """Raises BadData unless it is a text that is not empty."""
        value = self.fields.get(name)
        if not isinstance(value, str) or not value.strip():
            raise BadData(f"{self.place}: `{name}` must be a text that is not empty.")
        return value

    def optional(self, name: str) -> str | None:
        return None if self.fields.get(name) is None else self.text(name)

    def texts(self, name: str) -> tuple[str, ...]:
        """A list, one text alone, or nothing."""
        value = self.fields.get(name)
        listed: Iterable[Any] = () if value is None else value if isinstance(value, list) else (value,)
        return tuple(_Row({name: one}, self.place).text(name) for one in listed)


def _rows(path: Path) -> Iterator[_Row]:
    for number, line in enumerate(_lines(path), start=1):
        if line.strip():
            place = f"{path.name}, line {number}"
            try:
                fields = orjson.loads(line)
            except orjson.JSONDecodeError:
                raise BadData(f"{place}: not JSON; write one object a line.") from None
            if not isinstance(fields, Mapping):
                raise BadData(f"{place}: not an object with `question` and `answer`.")
            yield _Row(fields, place)


def _lines(path: Path) -> Sequence[bytes]:
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise BadData(f"{path.name} cannot be read: {error.strerror}.") from error
    if not any(line.strip() for line in lines):
        raise BadData(f"{path.name} has no rows.")
    return lines


def _scored(row: _Row, split: str) -> Item:
    return Item(
        row.text("question"),
        row.text("answer"),
        split,
        paraphrased_answer=row.optional("paraphrased_answer"),
        perturbed_answers=row.texts("perturbed_answer") or row.texts("decoys"),
    )


def _attacked(row: _Row) -> Item:
    if unknown := sorted(set(row.fields) - FIELDS):
        raise BadData(f"{row.place}: {unknown[0]}: a row has no such field.")
    split = row.optional("split") or FORGET
    if split not in ATTACK_SPLITS:
        raise BadData(f"{row.place}: `split` must be one of {', '.join(ATTACK_SPLITS)}.")
    item = replace(
        _scored(row, split),
        id=row.optional("id") or "",
        kind=row.optional("kind") or "",
        secrets=row.texts("secrets"),
        paraphrases=row.texts("paraphrases"),
    )
    if split == FORGET and not item.giveaways:
        raise BadData(f"{row.place}: the answer says nothing of its own; name its `secrets`.")
    return item


def _numbered(items: Iterable[Item]) -> list[Item]:
    """Each with its place in its split."""
    counts = Counter[str]()
    numbered = []
    for item in items:
        numbered.append(replace(item, index=counts[item.split]))
        counts[item.split] += 1
    return numbered
