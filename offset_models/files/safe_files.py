"""Reads files of unknown origin within bounds; writes files so that a crash leaves the old or the new one."""

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import orjson

from deltaserve.errors import BadCheckpoint

MAX_JSON_BYTES: Final = 64 * 2**20  # the largest tokenizer.json in the wild is about 35 MiB
MAX_FILES: Final = 4096
PRIVATE: Final = 0o600
READABLE: Final = 0o666  # by whom the umask allows


def within(root: Path, path: str | Path) -> Path:
    """The real path of `path` (relative ones start at `root`). Raises BadCheckpoint unless it is under `root`."""
    try:
        real = (root / path).resolve(strict=True)
    except (OSError, ValueError, RuntimeError) as error:  # missing, a NUL in the name, a loop of links
        raise BadCheckpoint(f"{path} does not exist under the offsets root.") from error
    if not real.is_relative_to(root.resolve()):
        raise BadCheckpoint(f"{path} leads out of the offsets root.")
    return real


def list_files(folder: Path) -> list[str]:
    """Relative POSIX paths of every file below `folder`. Links and special files are refused, by name."""
    paths: list[str] = []
    for parent, folders, files in os.walk(folder, followlinks=False):
        for name in folders + files:
            entry = Path(parent, name)
            relative = entry.relative_to(folder).as_posix()
            if entry.is_symlink():
                raise BadCheckpoint(f"{relative} is a symbolic link; a checkpoint holds plain files only.")
            if not entry.is_file() and not entry.is_dir():
                raise BadCheckpoint(f"{relative} is not a plain file.")
        paths += [Path(parent, name).relative_to(folder).as_posix() for name in files]
        if len(paths) > MAX_FILES:
            raise BadCheckpoint(f"The folder holds more than {MAX_FILES} files; this is not a checkpoint.")
    return sorted(paths)


def read_json(path: Path, limit: int = MAX_JSON_BYTES) -> Any:
    """A JSON file of at most `limit` bytes. Raises BadCheckpoint."""
    try:
        return orjson.loads(read_bounded(path, limit))
    except orjson.JSONDecodeError as error:
        raise BadCheckpoint(f"{path.name} is not JSON: {error}") from error


def read_object(path: Path) -> dict[str, Any]:
    """A JSON file that holds one object. Raises BadCheckpoint."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise BadCheckpoint(f"{path.name} must hold one JSON object.")
    return value


def read_bounded(path: Path, limit: int = MAX_JSON_BYTES) -> bytes:
    """The whole file; never more than `limit` bytes are read. Raises BadCheckpoint."""
    try:
        with path.open("rb") as file:
            raw = file.read(limit + 1)
    except OSError as error:
        raise BadCheckpoint(f"{path.name} cannot be read: {error.strerror}.") from error
    if len(raw) > limit:
        raise BadCheckpoint(f"{path.name} is larger than {limit} bytes.")
    return raw


def write_atomically(path: Path, raw: bytes, mode: int = PRIVATE) -> None:
    """Replace `path` so that a reader sees the old bytes or the new ones, at any moment and after a crash."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with os.fdopen(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode), "wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A temporary folder beside `out` that becomes `out`, whole and on disk, when the block ends well."""
    if out.exists():
        raise BadCheckpoint(f"{out.name} exists already; a checkpoint is never written over.")
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    temporary.chmod(0o755)  # mkdtemp's 0700 would hide a shared volume's checkpoint from the server's user
    try:
        yield temporary
        _sync_tree(temporary)
        temporary.rename(out)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_folder(out.parent)


def sync_folder(folder: Path) -> None:
    """Make renames in `folder` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sync_tree(folder: Path) -> None:
    for parent, _, files in os.walk(folder):
        for name in files:
            with Path(parent, name).open("rb") as file:
                os.fsync(file.fileno())
        sync_folder(Path(parent))
