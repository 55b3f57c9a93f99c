"""Deletes what a request's work holds of its target; digests, figures and weights stay."""

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from deltaserve.errors import Conflict, CorruptState, DeltaserveError
from deltaserve.offset_models.targets.asking.journal import FOLDER, journal_files
from deltaserve.offset_models.targets.request.rows_folder import PARTS, RowsFolder
from deltaserve.offset_models.training.collecting.folder import holding, leftovers, read_collection, writing_in
from deltaserve.offset_models.training.collecting.folder import purge as purge_collection
from deltaserve.offset_models.training.forget import COLLECTED
from deltaserve.offset_models.training.rows.row import Row


@dataclass(frozen=True, slots=True)
class Purged:
    """What was deleted, and files in which words of the target still stand."""

    deleted: Sequence[Path]
    left: Sequence[Path]


def purge(work: Path, out: Path, name: str) -> Purged:
    """Empty the work of one request. `out`: its checkpoint, which is only looked through. `name`: of the target.

    Raises Conflict where there is nothing of a request, where another process works on it, and where a file cannot be
    deleted.
    """
    rows = RowsFolder(work / "rows")
    files = [*rows.files(), *journal_files(work)]
    collections = [path for path in sorted(work.glob(f"{COLLECTED}-*")) if _is_collection(path)]
    if not files and not collections:
        raise Conflict(f"{work} holds no text of a request: nothing was deleted.")
    rows_of_target = _rows_of_target(rows)
    with ExitStack() as stack:
        if (work / FOLDER).exists():  # who asks there would write all of it again
            stack.enter_context(writing_in(work / FOLDER))
        gone = [path for folder in collections for path in purge_collection(folder, [])]
        _delete(files)
    return Purged([*gone, *files], _left((work, out), rows_of_target, name))


def _is_collection(folder: Path) -> bool:
    """Raises Conflict where its record is damaged: then nothing tells which of its files to keep."""
    try:
        return read_collection(folder) is not None
    except CorruptState as error:
        raise Conflict(
            f"{folder} holds answers of the black box, but its record is damaged: delete that folder by hand, then "
            "purge again. Nothing was deleted."
        ) from error


def _delete(files: Iterable[Path]) -> None:
    for path in files:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise Conflict(f"{path} cannot be deleted ({error.strerror}): delete it by hand.") from error


def _rows_of_target(rows: RowsFolder) -> list[Row]:
    """Read before they are deleted; rows that cannot be read any more are deleted all the same."""
    try:
        parts = rows.read()
    except DeltaserveError:
        return []
    return [each.row for part in PARTS for each in parts[part] if each.group == "target"]


def _left(folders: Iterable[Path], rows: Sequence[Row], name: str) -> list[Path]:
    there = [folder for folder in folders if folder.exists()]
    found = [path for folder in there for path in (*holding(folder, [name]), *leftovers(folder, rows))]
    return list(dict.fromkeys(found))
