"""The audit log of swaps: append-only JSON lines in numbered files, with names and digests, never text."""

import os
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol

import orjson

from deltaserve.offset_models.files.safe_files import sync_folder

ROTATE_BYTES: Final = 4 * 2**20
FILE_PATTERN: Final = "audit-*.jsonl"


@dataclass(frozen=True, slots=True)
class Actor:
    """Who made a change: an id of the admin key (never the key) and of the request."""

    key_id: str
    request_id: str


LOCAL: Final = Actor(key_id="local", request_id="-")


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the log before it has a number and a time."""

    action: str
    version: str
    digest: str | None
    actor: Actor
    result: str  # "ok", or "failed"
    reason: str | None = None  # a sentence of ours when it failed
    replica: str | None = None  # of a fleet: who made the change
    generation: int | None = None  # of the fleet's record after it


@dataclass(frozen=True, slots=True)
class Page:
    records: tuple[dict[str, Any], ...]  # newest first
    before: int | None  # pass it on for the next, older page; None: there is none
    torn: int  # lines met on the way that a crash left half written


class AuditPages(Protocol):
    """A log, wherever it is kept, as operators read it."""

    def page(self, limit: int, before: int | None = None) -> Page:
        """Up to `limit` records older than number `before`, newest first. Blocking."""


class AuditLog:
    """The log in `folder`, of one process. Threads may append and read at any moment."""

    def __init__(self, folder: Path, rotate_bytes: int = ROTATE_BYTES, *, reads_only: bool = False) -> None:
        """`reads_only`: another process may be writing a line this moment, which nobody must end for it."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._rotate_bytes = rotate_bytes
        self._lock = threading.Lock()
        self._next = next((record["seq"] for record in self._newest_first([0])), 0) + 1
        if not reads_only:
            self._end_torn_line()

    @property
    def empty(self) -> bool:
        """Whether nothing was ever recorded."""
        return self._next == 1

    def append(self, event: Event) -> None:
        """On disk when it returns. Raises OSError."""
        with self._lock:
            path = self._current()
            new = not path.exists()
            with path.open("ab") as file:
                _append(file, _line(self._next, event))
            if new:
                sync_folder(self._folder)
            self._next += 1

    def page(self, limit: int, before: int | None = None) -> Page:
        """Up to `limit` records older than number `before`, newest first."""
        torn = [0]
        found: list[dict[str, Any]] = []
        for record in self._newest_first(torn):
            if before is None or record["seq"] < before:
                if len(found) == limit:
                    return Page(tuple(found), found[-1]["seq"], torn[0])
                found.append(record)
        return Page(tuple(found), None, torn[0])

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob(FILE_PATTERN))

    def _current(self) -> Path:
        """The file to append to: the last one until it is full, then one named after its first record."""
        files = self._files()
        if files and files[-1].stat().st_size < self._rotate_bytes:
            return files[-1]
        return self._folder / f"audit-{self._next:012d}.jsonl"

    def _newest_first(self, torn: list[int]) -> Iterator[dict[str, Any]]:
        for path in reversed(self._files()):
            for line in reversed(path.read_bytes().split(b"\n")):
                if not line:
                    continue
                try:
                    yield orjson.loads(line)
                except orjson.JSONDecodeError:
                    torn[0] += 1

    def _end_torn_line(self) -> None:
        """A crash may have cut the last line; the next record starts on its own."""
        for path in self._files()[-1:]:
            raw = path.read_bytes()
            if raw and not raw.endswith(b"\n"):
                with path.open("ab") as file:
                    file.write(b"\n")


def _append(file: BinaryIO, line: bytes) -> None:
    """The whole line or none of it: a full disk must not leave half a record for the next one to run into."""
    end = file.seek(0, os.SEEK_END)
    try:
        file.write(line)
        file.flush()
        os.fsync(file.fileno())
    except OSError:
        os.ftruncate(file.fileno(), end)
        raise


def _line(number: int, event: Event) -> bytes:
    return orjson.dumps({"seq": number, **fields_of(event)}) + b"\n"


def fields_of(event: Event) -> dict[str, Any]:
    """One record, but for its number."""
    about = {key: value for key, value in asdict(event).items() if key != "actor" and value is not None}
    time = datetime.now(UTC).isoformat(timespec="milliseconds")
    return {"time": time, **about, **asdict(event.actor)}
