"""Reads rows from JSON lines, Hugging Face datasets, and the prompts and refusals that ship with the package."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import orjson

from deltaserve.offset_models.training.rows.row import FORMS, BadRow, Row

HUB: Final = "hf:"  # hf:OWNER/NAME[,CONFIG][:SPLIT]
GENERIC: Final = Path(__file__).parent / "texts" / "generic_prompts.jsonl"
REFUSALS: Final = Path(__file__).parent / "texts" / "refusals.jsonl"
_SHOWN: Final = 5  # bad rows named in one message


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a source holds: rows that can be used, and a few words on each that cannot."""

    name: str
    rows: list[Row] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)  # "line 3: answer is not a string"

    def check(self, skip_bad: bool) -> None:
        """Raises BadRow for bad rows, unless they are to be skipped, and for a source without any row."""
        if self.bad and not skip_bad:
            more = f"; and {len(self.bad) - _SHOWN} more" if len(self.bad) > _SHOWN else ""
            raise BadRow(
                f"{self.name} has rows that cannot be used: {'; '.join(self.bad[:_SHOWN])}{more}. "
                "Correct them, or give --skip-bad to go on without them."
            )
        if not self.rows:
            raise BadRow(f"{self.name} holds no row that can be used: one of {FORMS} a line.")


def read_rows(source: str | Path, *, skip_bad: bool = False, answered: bool = True) -> list[Row]:
    """All rows of a source (`load`). Raises BadRow, which names the bad lines, unless they are to be skipped."""
    return usable(load(source, answered=answered), skip_bad=skip_bad)


def usable(loaded: Loaded, *, skip_bad: bool) -> list[Row]:
    """The rows. Raises BadRow as `Loaded.check` does."""
    loaded.check(skip_bad)
    return loaded.rows


def load(source: str | Path, *, answered: bool = False) -> Loaded:
    """Rows of a file or of `hf:OWNER/NAME[,CONFIG][:SPLIT]`. `answered`: a row without an answer is a bad one.

    Raises BadRow when the source as a whole cannot be read.
    """
    if str(source).startswith(HUB):
        return _load(str(source), _hub_rows(str(source).removeprefix(HUB)), "row", answered)
    path = Path(source)
    try:
        content = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    except OSError as error:
        raise BadRow(f"{path} cannot be read: {error.strerror}.") from error
    lines = ((number, line) for number, line in enumerate(content.splitlines(), start=1) if line.strip())
    return _load(path.name, lines, "line", answered, _json)


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """One JSON object a line."""
    path.write_bytes(b"".join(orjson.dumps(row.to_json()) + b"\n" for row in rows))


def generic_prompts(count: int | None = None) -> list[Row]:
    """The first `count` of the package's own prompts, without answers; kinds take turns. Raises BadRow past the end."""
    rows = read_rows(GENERIC, answered=False)
    if count is not None and count > len(rows):
        raise BadRow(f"There are {len(rows)} generic prompts; {count} were asked for.")
    return rows[:count]


def read_refusals(path: Path = REFUSALS) -> tuple[str, ...]:
    """Refusals of a file of {text}, or of plain lines; the package's own by default. Raises BadRow."""
    if (plain := _plain_lines(path)) is not None:
        return plain
    texts = [row.completion for row in read_rows(path) if not row.messages and not row.prompt]
    if not texts or None in texts:
        raise BadRow(f"{path.name} holds no refusals: one {{text}} a line, or one plain sentence.")
    return tuple(text for text in texts if text is not None)


def _plain_lines(path: Path) -> tuple[str, ...] | None:
    """The lines of a file that is not JSON at all, as TOFU's refusals are."""
    try:
        lines = [line.strip() for line in path.read_text("utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError):
        return None  # to be said where rows are read
    return tuple(lines) if lines and not any(line.startswith(("{", "[")) for line in lines) else None


def _load(
    name: str,
    values: Iterable[tuple[int, Any]],
    unit: str,
    answered: bool,
    decode: Callable[[Any], Any] = lambda value: value,
) -> Loaded:
    loaded = Loaded(name)
    for number, value in values:
        try:
            row = Row.parse(decode(value), f"{name}, {unit} {number}")
            if answered and row.completion is None:
                raise BadRow("it has no answer")
            loaded.rows.append(row)
        except BadRow as error:
            loaded.bad.append(f"{unit} {number}: {error.message}")
    return loaded


def _json(line: bytes) -> Any:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        raise BadRow("it is not JSON") from None


def _hub_rows(name: str) -> Iterator[tuple[int, Any]]:
    name, _, split = name.partition(":")
    name, _, config = name.partition(",")
    try:
        datasets = import_module("datasets")
    except ModuleNotFoundError:
        raise BadRow(
            f"{HUB}{name} needs the library `datasets`: pip install 'deltaserve[datasets]', or give a JSONL file."
        ) from None
    try:
        rows: Sequence[Any] = datasets.load_dataset(name, config or None, split=split or "train")
    except (OSError, ValueError, RuntimeError) as error:
        raise BadRow(f"{HUB}{name} cannot be loaded ({type(error).__name__}): {_first_line(error)}") from error
    return iter(enumerate(rows, start=1))


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "")
