"""Results as they come, one JSON line each, so that a run that was cut off goes on where it stopped."""

from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Self

import orjson

from deltaserve.errors import BadRequest


class Journal:
    """Append-only; the first line says which run it belongs to."""

    def __init__(self, path: Path, run: Mapping[str, Any]) -> None:
        """Raises BadRequest when the file belongs to another run."""
        self.path = path
        self.entries: list[dict[str, Any]] = []
        self._file: IO[bytes] | None = None
        self._run = orjson.loads(orjson.dumps(dict(run)))
        if path.exists():
            self._resume(path.read_bytes())

    def _resume(self, raw: bytes) -> None:
        lines = [line for line in raw.split(b"\n")[:-1] if line.strip()]  # a line that was cut off has no end
        if not lines:
            return
        try:
            first, *self.entries = [orjson.loads(line) for line in lines]
        except orjson.JSONDecodeError as error:
            raise BadRequest(f"{self.path} is damaged; delete it to begin again.") from error
        if first != self._run:
            raise BadRequest(f"{self.path} is left from a run with other settings; delete it, or choose another --out.")

    def __enter__(self) -> Self:
        whole = [self._run, *self.entries]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_bytes(b"".join(orjson.dumps(entry) + b"\n" for entry in whole))
        self._file = self.path.open("ab")
        return self

    def add(self, entry: Mapping[str, Any]) -> None:
        if self._file is None:
            raise ValueError("the journal is not open")
        self._file.write(orjson.dumps(dict(entry)) + b"\n")
        self._file.flush()
        self.entries.append(dict(entry))

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def discard(self) -> None:
        """The run is complete and its result is written."""
        self.path.unlink(missing_ok=True)


def write_atomically(path: Path, content: bytes) -> None:
    """The old file or the new one, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    new.write_bytes(content)
    new.replace(path)
