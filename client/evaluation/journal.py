"""What was measured so far, one JSON line each, so that a run that was cut off goes on where it stopped."""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import orjson

from deltaserve.client.evaluation.data.reading import BadData
from deltaserve.offset_models.files.safe_files import write_atomically


class OtherRun(BadData):
    """The journal belongs to another measurement."""


class Journal:
    """An append-only file beside the result. Its first line says what is measured. Use it as a context manager."""

    def __init__(self, out: Path, run: Mapping[str, Any]) -> None:
        """Reads what an earlier run of the same kind left at OUT.partial. Raises OtherRun, or BadData for damage."""
        self.path = out.with_name(f"{out.name}.partial")
        self._run = orjson.loads(orjson.dumps(run))
        self.entries: list[dict[str, Any]] = self._read()
        self._file: BinaryIO | None = None

    def __enter__(self) -> Self:
        """Opens the file, so that entries can be added."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # Written anew: appending after a torn line would spoil the next one too.
        lines = (orjson.dumps(line, option=orjson.OPT_SORT_KEYS) + b"\n" for line in (self._run, *self.entries))
        write_atomically(self.path, b"".join(lines))
        self._file = self.path.open("ab")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def add(self, entry: Mapping[str, Any]) -> None:
        """Writes the entry to disk at once."""
        if self._file is None:
            raise ValueError("the journal is not open")
        self._file.write(orjson.dumps(entry) + b"\n")
        self._file.flush()
        self.entries.append(dict(entry))

    def remove(self) -> None:
        """Deletes the file; the result is written."""
        self.path.unlink(missing_ok=True)

    def _read(self) -> list[dict[str, Any]]:
        lines = self.path.read_bytes().split(b"\n")[:-1] if self.path.exists() else []  # a torn last line is dropped
        try:
            run, *entries = [orjson.loads(line) for line in lines if line.strip()] or [self._run]
        except orjson.JSONDecodeError:
            raise self.damaged() from None
        if not all(isinstance(entry, dict) for entry in entries):
            raise self.damaged()
        if run != self._run:
            raise OtherRun(
                f"{self.path.name} was begun with other data, settings or servers (or another offset version). "
                "Remove it to begin anew, or name another --out."
            )
        return entries

    def damaged(self) -> BadData:
        """The error for an entry that cannot be read."""
        return BadData(f"{self.path.name} is damaged; remove it to begin anew.")
