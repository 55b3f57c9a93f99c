"""What a parent gives its processes when it starts them, what they report, and how they notice that it is gone.

One socket pair for each process. It ends when either side ends, even by SIGKILL: then a process ends at once, and the
parent starts it again.
"""

import os
import pickle
import shutil
import socket
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from deltaserve.errors import DeltaserveError
from deltaserve.server.processes.wire.messages import Fault
from deltaserve.server.processes.wire.translation import fault
from deltaserve.server.settings import Settings

ORPHANED: Final = 1  # exit status of a process whose parent is gone
_LENGTH_BYTES: Final = 4
SOCKET: Final = "engine.sock"


@dataclass(frozen=True, slots=True)
class Handover:
    """All that a process needs to know. `public` and `admin`: file descriptors of bound sockets, for front-ends."""

    settings: Settings
    folder: Path  # private to this server: the engine's socket, the metrics of the front-ends
    front_ends: int
    public: tuple[int, ...] = ()
    admin: tuple[int, ...] = ()
    began_ns: int = 0  # when the server was started, Unix time
    pushes: bool = False  # whether this process sends the metrics of all

    @property
    def engine_socket(self) -> Path:
        return self.folder / SOCKET


class Report(msgspec.Struct):
    """What a process says of its start: one line of JSON."""

    started: bool
    fault: Fault | None = None  # that a known error ended it with


class Parent:
    """The parent, as a process of its sees it."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel

    def handover(self) -> Handover:
        """What it gives; blocks until then, which is not long."""
        with self._channel.makefile("rb") as stream:
            length = int.from_bytes(stream.read(_LENGTH_BYTES), "little")
            given: Handover = pickle.loads(stream.read(length))
        return given

    def watch(self, folder: Path) -> None:
        """From now on this process ends as soon as the parent is gone. `folder` is removed in its place."""

        def wait() -> None:
            with suppress(OSError):  # reset: it died before it had read a report of ours
                while self._channel.recv(1):
                    pass
            shutil.rmtree(folder, ignore_errors=True)
            os._exit(ORPHANED)

        threading.Thread(target=wait, name="parent", daemon=True).start()

    def started(self) -> None:
        self._report(Report(True))

    def failed(self, error: DeltaserveError | None) -> None:
        """The start has ended: with a sentence, or with a defect whose traceback is in the log."""
        self._report(Report(False, None if error is None else fault(error)))

    def _report(self, report: Report) -> None:
        self._channel.sendall(msgspec.json.encode(report) + b"\n")


def give(channel: socket.socket, handover: Handover) -> None:
    """The parent's side of `Parent.handover`."""
    body = pickle.dumps(handover)
    channel.sendall(len(body).to_bytes(_LENGTH_BYTES, "little") + body)


def exit_on_defect(parent: Parent, work: Callable[[], int]) -> int:
    """The exit status of `work`; an error that it raises is reported, and is then 1."""
    try:
        return work()
    except DeltaserveError as error:
        parent.failed(error)
    except Exception:  # noqa: BLE001  (told whole before it is reported: the parent waits for nothing then)
        traceback.print_exc()
        parent.failed(None)
    return 1
