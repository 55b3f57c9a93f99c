"""An append-only file of JSON objects, one a line: what a run has done, for one that goes on after it was stopped."""

from pathlib import Path
from typing import Any, BinaryIO

import orjson

from deltaserve.offset_models.files.safe_files import write_atomically


class DamagedLines(ValueError):
    """A line that is whole and yet no JSON object."""


class JsonLines:
    """Its objects, and a place for more. A torn last line, which a kill leaves, is dropped."""

    def __init__(self, path: Path) -> None:
        """Reads what is there. Raises DamagedLines, OSError."""
        self.path = path
        self.objects: list[dict[str, Any]] = _read(path)
        self._file: BinaryIO | None = None

    def open(self) -> None:
        """From now on `add` may be called. The file is written anew: behind a torn line the next one is spoilt."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path, b"".join(map(_line, self.objects)))
        self._file = self.path.open("ab")

    def add(self, entry: dict[str, Any]) -> None:
        """One more object, with the system at once: it survives the process."""
        if self._file is None:
            raise ValueError("the file is not open")
        self._file.write(_line(entry))
        self._file.flush()
        self.objects.append(entry)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _line(entry: dict[str, Any]) -> bytes:
    return orjson.dumps(entry, option=orjson.OPT_SORT_KEYS) + b"\n"


def _read(path: Path) -> list[dict[str, Any]]:
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    try:
        objects = [orjson.loads(line) for line in lines if line.strip()]
    except orjson.JSONDecodeError as error:
        raise DamagedLines(f"{path.name} is damaged.") from error
    if not all(isinstance(entry, dict) for entry in objects):
        raise DamagedLines(f"{path.name} is damaged.")
    return objects
