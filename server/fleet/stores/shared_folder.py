"""The store in a folder that all replicas share: a single server's state file and audit log, and who is present."""

import fcntl
import hashlib
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

import msgspec

from deltaserve.errors import CorruptState, StoreUnreachable
from deltaserve.offset_models.files.safe_files import write_atomically
from deltaserve.offset_models.registry.audit import AuditLog, Event, Page
from deltaserve.offset_models.registry.state import REMEDY, STATE_FILE
from deltaserve.server.fleet.presence import Presence
from deltaserve.server.fleet.record import Record, decode, encode
from deltaserve.server.fleet.stores.ports import Stored

PRESENT: Final = "replicas"  # the folder of presences
UNREADABLE: Final = -1  # the count of a row that says nothing
WRITING: Final = "writing.lock"
_LOCKED_WITHIN_S: Final = 3.0
_LOOKS_S: Final = 0.05  # between two looks at the record's file
_RETRY_S: Final = 0.01


class SharedFolder:
    """`stores.ports.Store`. A change takes a lock for the length of a write; reading takes none."""

    forgetful = False

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / STATE_FILE
        self._contact_s = 0.0  # of whoever opened it
        self._looked_at: tuple[int, int] | None = None  # the record's file, before it was last read for a contact

    @property
    def where(self) -> str:
        return str(self._folder)

    def read(self) -> Stored:
        return read_record(self._folder)

    def swap(self, mark: bytes, new: Record, event: Event) -> bool:
        with _reachable(self._folder), self._alone():
            old = self._path.read_bytes() if self._path.exists() else b""
            if _mark(old) != mark:
                return False
            write_atomically(self._path, encode(new))
            try:
                AuditLog(self._folder).append(event)
            except OSError:
                self._undo(old)
                raise
        return True

    def contact(self, presence: Presence) -> Stored:
        with _reachable(self._folder):
            (self._folder / PRESENT).mkdir(parents=True, exist_ok=True)
            added = not self._row(presence.id).exists()
            _write_quickly(self._row(presence.id), msgspec.json.encode(presence))
        self._contact_s = presence.contact_s
        self._looked_at = self._signature()
        return replace(self.read(), added=added)

    def present(self) -> Sequence[Presence]:
        with _reachable(self._folder):
            paths = sorted((self._folder / PRESENT).glob("*.json"))
            rows = [one for path in paths if (one := _presence(path)) is not None]
        longest_s = max([self._contact_s, *(one.contact_s for one in rows)])
        return [msgspec.structs.replace(one, contact_s=longest_s) if one.count == UNREADABLE else one for one in rows]

    def leave(self, presence: Presence) -> None:
        path = self._row(presence.id)
        with _reachable(self._folder):
            there = _presence(path)
            if there is not None and there.count <= presence.count:
                path.unlink(missing_ok=True)

    def append(self, event: Event) -> None:
        with _reachable(self._folder), self._alone():
            if not self._path.exists():  # a log without a record means that the record was lost
                write_atomically(self._path, encode(Record()))
            AuditLog(self._folder).append(event)

    def page(self, limit: int, before: int | None = None) -> Page:
        with _reachable(self._folder):
            return AuditLog(self._folder, reads_only=True).page(limit, before)

    def wait(self, timeout_s: float) -> None:
        until = time.monotonic() + timeout_s
        while self._signature() == self._looked_at and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, _LOOKS_S))

    def _signature(self) -> tuple[int, int] | None:
        """A file that was replaced has another inode, or another time."""
        with suppress(OSError):
            facts = self._path.stat()
            return facts.st_ino, facts.st_mtime_ns
        return None

    def _row(self, id: str) -> Path:
        return self._folder / PRESENT / f"{id}.json"

    def _undo(self, old: bytes) -> None:
        with suppress(OSError):  # the caller reads the record again, and finds what it really is
            if old:
                write_atomically(self._path, old)
            else:
                self._path.unlink(missing_ok=True)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """The only writer. A replica that is stopped while it writes holds up changes, and nothing else."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / WRITING).open("ab") as file:
            until = time.monotonic() + _LOCKED_WITHIN_S
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > until:
                        raise StoreUnreachable(
                            "Another replica is writing the fleet's record and does not finish; nothing was changed."
                        ) from None
                    time.sleep(_RETRY_S)
            yield


def read_record(folder: Path) -> Stored:
    """Of a fleet, or of a single server. Raises CorruptState, StoreUnreachable."""
    with _reachable(folder):
        raw = _record_file(folder)
        if raw is None and any(folder.glob("audit-*.jsonl")):
            raw = _record_file(folder)  # the first change may have come between the two looks; its record comes first
            if raw is None:
                raise CorruptState(f"{STATE_FILE} is missing beside an audit log. {REMEDY}")
    return Stored(decode(raw), _mark(raw)) if raw is not None else Stored(Record(), b"")


def _record_file(folder: Path) -> bytes | None:
    with suppress(FileNotFoundError):
        return (folder / STATE_FILE).read_bytes()
    return None


def _mark(raw: bytes) -> bytes:
    return hashlib.sha256(raw).digest() if raw else b""


def _presence(path: Path) -> Presence | None:
    """None for one that has just left. What a power cut left half written stands for its owner until it is dead:

    if the owner lives, its next contact writes the row anew.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Presence)
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError:
        return Presence(id=path.stem, replica=path.stem, count=UNREADABLE, fenced="its row cannot be read")


def _write_quickly(path: Path, raw: bytes) -> None:
    """Whole for whoever reads it; a power cut may lose it, since it is written again at the next contact."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        temporary.write_bytes(raw)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def _reachable(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise StoreUnreachable(
            f"The fleet's folder {folder} cannot be used ({reason}); nothing was changed."
        ) from error
