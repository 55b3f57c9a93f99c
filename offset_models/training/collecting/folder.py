"""A folder of collected answers: its record, its lock, and how it is purged."""

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from deltaserve.errors import Conflict, CorruptState, StateFolderUnusable
from deltaserve.offset_models.files.digests import Sha256
from deltaserve.offset_models.files.locks import locked
from deltaserve.offset_models.files.safe_files import write_atomically
from deltaserve.offset_models.training.collecting.cache import is_cache, is_shard
from deltaserve.offset_models.training.rows.dataset import RowsSummary
from deltaserve.offset_models.training.rows.row import Row

RECORD: Final = "collection.json"
_LEAST_TEXT: Final = 12  # characters: a shorter answer ("Yes.", "Paris") stands in many a file by chance


class Collection(BaseModel):
    """`collection.json`: figures and digests, never text."""

    model_config = ConfigDict(frozen=True)

    format: int = 1
    model: str
    server: str
    k: int
    asked_k: int  # what was wished for; the black box may list fewer
    method: str
    tokenizer: Sha256  # TokenizerFingerprint.ids
    max_context: int | None  # tokens; longer rows were left out
    answer_tokens: int
    forget: RowsSummary
    retain: RowsSummary
    complete: bool = False
    purged_at: str | None = None  # ISO 8601, UTC

    def write(self, folder: Path) -> None:
        write_atomically(folder / RECORD, self.model_dump_json(indent=2).encode() + b"\n")


def read_collection(folder: Path) -> Collection | None:
    """The folder's record; None when it has none. Raises CorruptState."""
    try:
        return Collection.model_validate_json((folder / RECORD).read_bytes())
    except FileNotFoundError:
        return None
    except (ValidationError, OSError) as error:
        raise CorruptState(f"{folder / RECORD} cannot be read as a collection's record; give another --out.") from error


@contextmanager
def writing_in(folder: Path) -> Iterator[None]:
    """The folder, made where it is missing, for this process alone. Raises Conflict."""
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(folder))
        except StateFolderUnusable as error:
            raise Conflict(f"{folder} cannot be written, or another process is collecting into it.") from error
        yield


def purge(folder: Path, forget_files: Sequence[Path]) -> list[Path]:
    """Delete the black box's lists and answers and the forget files; returns what was deleted. The record stays.

    Of a link the file behind it goes too. Raises Conflict when the folder holds no collection or is in use, and when
    something cannot be deleted: all else is gone then, and the record does not say that it was purged.
    """
    if (record := read_collection(folder)) is None:
        raise Conflict(f"{folder} holds no collection ({RECORD} is missing): nothing was deleted.")
    with writing_in(folder):
        record = record.model_copy(update={"complete": False})
        record.write(folder)
        doomed = dict.fromkeys([*_shards(folder), *(name for path in forget_files for name in (path, path.resolve()))])
        gone = [path for path in doomed if _unlinked(path)]
        if left := [path for path in doomed if path.is_symlink() or path.exists()]:
            raise Conflict(f"{', '.join(map(str, left))} cannot be deleted; all else is gone. Delete it by hand.")
        _remove_empty_caches(folder)
        record.model_copy(update={"purged_at": datetime.now(UTC).isoformat(timespec="seconds")}).write(folder)
    return gone


def leftovers(folder: Path, rows: Sequence[Row]) -> list[Path]:
    """Files in the folder that still hold a text of the rows, as UTF-8 or as JSON escapes it."""
    return holding(folder, [text for row in rows for text in _texts(row)])


def holding(folder: Path, texts: Sequence[str]) -> list[Path]:
    """Files below the folder in which one of the texts stands, as UTF-8 or as JSON escapes it."""
    needles = {needle for text in texts for needle in _written(text)}
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink()]
    return [path for path in files if _holds(path, needles)]


def _shards(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if is_cache(path):
            yield from filter(is_shard, path.iterdir())


def _unlinked(path: Path) -> bool:
    try:
        path.unlink()
    except OSError:
        return False
    return True


def _remove_empty_caches(folder: Path) -> None:
    for path in [path for path in folder.iterdir() if is_cache(path)]:
        if not any(path.iterdir()):
            path.rmdir()


def _texts(row: Row) -> Iterator[str]:
    texts = [row.completion or "", row.prompt, row.begun, *row.paraphrases, *(content for _, content in row.messages)]
    yield from (text.strip() for text in texts if len(text.strip()) >= _LEAST_TEXT)


def _written(text: str) -> Iterator[bytes]:
    """As plain text, and as JSON has it with and without \\u escapes."""
    yield text.encode()
    for ascii_only in (True, False):
        yield json.dumps(text, ensure_ascii=ascii_only)[1:-1].encode()


def _holds(path: Path, needles: set[bytes]) -> bool:
    content = path.read_bytes()
    return any(needle in content for needle in needles)
