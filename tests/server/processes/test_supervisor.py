"""The parent: it starts again what dies, ends all in order, and leaves nothing behind, however it ends itself."""

import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks.support.process_tree import crash, ended, runs
from deltaserve.server.processes.handover import SOCKET
from deltaserve.server.processes.supervisor import INTERRUPTED, Post, _private_folder
from tests.support.process import Running, forked

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes in /proc")


def eventually(condition: Callable[[], bool], within_s: float = 30.0) -> None:
    until = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < until, "it never came true"
        time.sleep(0.01)


@dataclass
class Family:
    """A supervisor and what its processes wrote."""

    parent: Running
    folder: Path

    def pids(self, role: str) -> list[int]:
        """Of those that run."""
        found = [int(path.name.rpartition("-")[2]) for path in self.folder.glob(f"{role}-*")]
        return sorted(pid for pid in found if runs(pid))

    @property
    def all(self) -> list[int]:
        return self.pids("engine") + self.pids("frontend")

    @property
    def complete(self) -> bool:
        return (len(self.pids("engine")), len(self.pids("frontend"))) == (1, 2)

    @property
    def private(self) -> Path:
        return Path((self.folder / "private").read_text())

    @property
    def pushing(self) -> list[str]:
        """What the front-ends were told of the metrics: since when they count, and whose task it is to send them."""
        return sorted((self.folder / f"frontend-{pid}").read_text() for pid in self.pids("frontend"))

    def tell(self, number: signal.Signals) -> None:
        os.kill(self.parent.pid, number)

    def status(self) -> int:
        return self.parent.popen.wait(20)


@contextmanager
def started(folder: Path) -> Iterator[Family]:
    with forked("tests.support.supervised", str(folder)) as parent:
        yield Family(parent, folder)


@contextmanager
def family(folder: Path) -> Iterator[Family]:
    with started(folder) as one:
        eventually(lambda: one.complete)
        yield one


def test_what_dies_is_started_again_the_others_stay_and_a_signal_ends_all_in_order(tmp_path: Path) -> None:
    with family(tmp_path) as one:
        one.tell(signal.SIGHUP)  # the file of keys is the front-ends' to read
        eventually(lambda: one.pids("again-frontend") == one.pids("frontend"))
        assert not one.pids("again-engine")
        told_first = one.pushing
        assert [told.split()[1] for told in told_first] == ["False", "True"]
        for role in ("engine", "frontend", "frontend"):
            before, dead = set(one.all), one.pids(role)[0]
            crash(dead)
            eventually(lambda dead=dead: dead not in one.all and one.complete)  # type: ignore[misc]
            assert len(before & set(one.all)) == 2
            told = json.loads(one.parent.lines[-1])
            assert told["event"] == f"the {role} has ended and is started again"
            assert told["status"] == -signal.SIGKILL
            assert one.pushing == told_first
        (tmp_path / "bad-offset").touch()
        crash(one.pids("engine")[0])
        eventually(lambda: any("The offset is bad." in line for line in one.parent.lines))
        assert len(one.pids("frontend")) == 2
        (tmp_path / "bad-offset").unlink()
        eventually(lambda: one.complete)
        pids, private = one.all, one.private
        assert private.stat().st_mode & 0o777 == 0o700
        one.tell(signal.SIGTERM)
        assert one.status() == 0 and ended(pids) and not private.exists()
        last = max(path.stat().st_mtime_ns for path in tmp_path.glob("ended-frontend-*"))
        assert len(list(tmp_path.glob("ended-frontend-*"))) == 2
        assert next(tmp_path.glob("ended-engine-*")).stat().st_mtime_ns >= last


def test_after_a_second_signal_nothing_is_waited_for(tmp_path: Path) -> None:
    (tmp_path / "deaf").touch()
    with family(tmp_path) as one:
        pids = one.all
        one.tell(signal.SIGTERM)
        time.sleep(0.2)
        assert len(one.pids("frontend")) == 2
        one.tell(signal.SIGINT)
        assert one.status() == INTERRUPTED and ended(pids)


def test_when_the_parent_is_killed_all_end_and_its_folder_goes(tmp_path: Path) -> None:
    (tmp_path / "deaf").touch()
    with family(tmp_path) as one:
        pids, private = one.all, one.private
        crash(one.parent.pid)
        assert ended(pids) and not private.exists()


def test_a_parent_that_is_killed_before_it_read_what_they_reported_leaves_nothing_either(tmp_path: Path) -> None:
    (tmp_path / "held").touch()
    with started(tmp_path) as one:
        eventually(lambda: len(list(tmp_path.glob("held-*"))) == 3)
        one.tell(signal.SIGSTOP)
        (tmp_path / "held").unlink()
        eventually(lambda: one.complete)
        pids = one.all
        crash(one.parent.pid)
        assert ended(pids)


def test_a_start_that_fails_ends_all_and_is_told_by_its_sentence(tmp_path: Path) -> None:
    (tmp_path / "bad-offset").touch()
    with started(tmp_path) as one:
        assert one.status() == 4
        eventually(lambda: bool(one.parent.lines))
        assert json.loads(one.parent.lines[-1]) == {"raised": "The offset is bad."}
        assert ended(one.all) and not one.private.exists()


def test_a_process_that_is_killed_while_the_server_starts_is_named(tmp_path: Path) -> None:
    (tmp_path / "held").touch()
    with started(tmp_path) as one:
        eventually(lambda: len(list(tmp_path.glob("held-*"))) == 3)
        crash(int(next(tmp_path.glob("held-engine-*")).name.rpartition("-")[2]))
        assert one.status() == 1
        eventually(lambda: bool(one.parent.lines))
        told = json.loads(one.parent.lines[-1])
        assert told == {"event": "the engine ended while the server started", "status": -signal.SIGKILL}


def test_the_private_folder_has_a_name_that_a_socket_can_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / ("x" * 90)
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    with _private_folder() as folder, socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / SOCKET))
    assert not folder.exists()


def test_a_start_that_fails_by_a_defect_has_its_traceback(tmp_path: Path) -> None:
    (tmp_path / "defect").touch()
    with started(tmp_path) as one:
        assert one.status() == 1 and ended(one.all)
        eventually(lambda: "RuntimeError: a defect\n" in one.parent.lines)


def test_a_process_that_cannot_start_or_ends_at_once_is_tried_again_later_and_later() -> None:
    post, delays = Post("engine"), []
    now = time.monotonic()
    for served_since in (now - 60.0, *[None, now] * 6, now - 60.0):
        post.served_since = served_since
        post.vacated()
        delays.append(post.delay_s)
    assert delays[:4] == [0.0, 0.5, 1.0, 2.0] and delays[-2:] == [30.0, 0.0]
