"""Items from files with one JSON object a line, or a list of them. `evaluate` and `leakage` read the same rows."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
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
    return numbered(_scored(row, row.own_split(split) if own_splits else split) for row in rows_of(path))


def read_attack_items(path: Path) -> list[Item]:
    """Rows to be attacked, of the split "forget" unless they name another. Raises BadData for unknown fields too."""
    return numbered(_attacked(row) for row in rows_of(path))


def find_file(folder: Path, stem: str) -> Path | None:
    """STEM.jsonl or STEM.json of a folder; None when it has neither."""
    return next((path for suffix in SUFFIXES if (path := folder / (stem + suffix)).is_file()), None)


def needed_file(folder: Path, stem: str) -> Path:
    """STEM.jsonl or STEM.json of a folder. Raises BadData, which names it."""
    path = find_file(folder, stem)
    if path is None:
        packed = any(folder.glob(f"{stem}*.parquet"))
        more = "; it has it as parquet, which must be written as JSON first" if packed else ""
        raise BadData(f"{folder.name} has no {stem}.json or {stem}.jsonl{more}.")
    return path


def data_files(folder: Path) -> list[Path]:
    """Every file of rows in a folder, by name."""
    return sorted(path for path in folder.glob("*") if path.suffix in SUFFIXES and path.is_file())


@dataclass(frozen=True, slots=True)
class Row:
    """One JSON object and the place it stands at. Its methods raise BadData, which names the place."""

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
        return tuple(Row({name: one}, self.place).text(name) for one in listed)

    def rows(self, name: str) -> "tuple[Row, ...]":
        """A list of objects, or nothing."""
        listed = self.fields.get(name) or ()
        if not isinstance(listed, list | tuple) or not all(isinstance(one, Mapping) for one in listed):
            raise BadData(f"{self.place}: `{name}` must be a list of objects.")
        return tuple(Row(one, self.place) for one in listed)


def rows_of(path: Path, text_field: str | None = None) -> Iterator[Row]:
    """The rows of a file. A row that is a text by itself is an object of `text_field` alone. Raises BadData."""
    unit, values = _values(path)
    for number, value in values:
        place = f"{path.name}, {unit} {number}"
        if text_field is not None and isinstance(value, str):
            value = {text_field: value}
        if not isinstance(value, Mapping):
            raise BadData(f"{place}: not an object with named fields.")
        yield Row(value, place)


def _values(path: Path) -> tuple[str, Iterator[tuple[int, Any]]]:
    """What the file counts, "line" or "row", and its values with their numbers."""
    content = _content(path)
    if content.lstrip().startswith(b"["):
        listed = _json(content, path.name)
        if not listed:
            raise BadData(f"{path.name} has no rows.")
        return "row", enumerate(listed, start=1)
    lines = ((number, line) for number, line in enumerate(content.splitlines(), start=1) if line.strip())
    return "line", ((number, _json(line, f"{path.name}, line {number}")) for number, line in lines)


def _json(content: bytes, place: str) -> Any:
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        raise BadData(f"{place}: not JSON; write one object a line, or one list of objects.") from None


def _content(path: Path) -> bytes:
    try:
        content = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    except OSError as error:
        raise BadData(f"{path.name} cannot be read: {error.strerror}.") from error
    if not content.strip():
        raise BadData(f"{path.name} has no rows.")
    return content


def _scored(row: Row, split: str) -> Item:
    return Item(
        row.text("question"),
        row.text("answer"),
        split,
        paraphrased_answer=row.optional("paraphrased_answer"),
        perturbed_answers=row.texts("perturbed_answer") or row.texts("decoys"),
    )


def _attacked(row: Row) -> Item:
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


def numbered(items: Iterable[Item]) -> list[Item]:
    """Each with its place in its split."""
    counts = Counter[str]()
    numbered = []
    for item in items:
        numbered.append(replace(item, index=counts[item.split]))
        counts[item.split] += 1
    return numbered
