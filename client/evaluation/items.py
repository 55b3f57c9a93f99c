"""What is asked and what would be right or wrong: the rows that every suite is made of, and how they are read."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from deltaserve.errors import BadRequest

SUFFIXES: Final = (".jsonl", ".json")


class BadData(BadRequest):
    """Data that cannot be evaluated; the message names file and line, never their text."""


@dataclass(frozen=True, slots=True)
class Item:
    """One question of one split. Truth ratios need `perturbed_answers`; without a paraphrase the answer stands in."""

    split: str
    index: int  # in its split
    question: str
    answer: str
    paraphrased_answer: str | None = None
    perturbed_answers: tuple[str, ...] = ()

    @property
    def paraphrase(self) -> str:
        """The right answer that wrong ones are compared with."""
        return self.paraphrased_answer or self.answer

    @property
    def digest(self) -> str:
        """sha256 (hex) of all of it."""
        return hashlib.sha256(orjson.dumps(asdict(self), option=orjson.OPT_SORT_KEYS)).hexdigest()


@dataclass(frozen=True, slots=True)
class Suite:
    """A named set of items, split by split."""

    name: str
    items: tuple[Item, ...]

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(item.split for item in self.items))

    @property
    def digest(self) -> str:
        """sha256 (hex) over the items in order: all that a result keeps of them."""
        return hashlib.sha256("".join(item.digest for item in self.items).encode()).hexdigest()


def read_items(path: Path, split: str, limit: int | None = None) -> list[Item]:
    """The first `limit` rows of a file with one JSON object a line; blank lines are skipped. Raises BadData."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise BadData(f"{path.name} cannot be read: {error.strerror}.") from error
    items = [_item(split, at, row, where) for at, (where, row) in enumerate(_rows(path.name, lines))]
    if not items:
        raise BadData(f"{path.name} has no rows.")
    return items[:limit]


def find_file(folder: Path, stem: str) -> Path | None:
    """STEM.jsonl or STEM.json of a folder; None when it has neither."""
    return next((path for suffix in SUFFIXES if (path := folder / (stem + suffix)).is_file()), None)


def data_files(folder: Path) -> list[Path]:
    """Every file of rows in a folder, by name."""
    return sorted(path for path in folder.glob("*") if path.suffix in SUFFIXES and path.is_file())


def _rows(name: str, lines: Sequence[bytes]) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(lines, start=1):
        if line.strip():
            where = f"{name}, line {number}"
            try:
                yield where, orjson.loads(line)
            except orjson.JSONDecodeError:
                raise BadData(f"{where}: not JSON; write one object a line.") from None


def _item(split: str, index: int, row: Any, where: str) -> Item:
    if not isinstance(row, Mapping):
        raise BadData(f"{where}: not an object with `question` and `answer`.")
    paraphrase = row.get("paraphrased_answer")
    return Item(
        split,
        index,
        _text(row.get("question"), "question", where),
        _text(row.get("answer"), "answer", where),
        None if paraphrase is None else _text(paraphrase, "paraphrased_answer", where),
        tuple(_text(wrong, "perturbed_answer", where) for wrong in _listed(row.get("perturbed_answer"))),
    )


def _listed(value: Any) -> Iterable[Any]:
    """A list, one answer alone, or nothing."""
    if value is None:
        return ()
    return value if isinstance(value, list) else (value,)


def _text(value: Any, name: str, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise BadData(f"{where}: `{name}` must be a text that is not empty.")
    return value
