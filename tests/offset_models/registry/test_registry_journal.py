"""Audit log and state file: what survives rotation, torn lines and kill -9."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from deltaserve.offset_models.files.safe_files import write_atomically
from deltaserve.offset_models.registry.audit import Actor, AuditLog, Event
from deltaserve.offset_models.registry.state import PartSpec, RegistryState, StateFile, VersionSpec


def event(name: str = "a") -> Event:
    return Event("load", name, "0" * 64, Actor("key-1", "req-1"), "ok")


def names(log: AuditLog, limit: int = 1000) -> list[str]:
    return [record["version"] for record in log.page(limit).records]


def test_records_come_newest_first_page_by_page_over_rotated_files(tmp_path: Path) -> None:
    log = AuditLog(tmp_path, rotate_bytes=500)
    for number in range(20):
        log.append(event(f"v{number}"))
    assert len(list(tmp_path.glob("audit-*.jsonl"))) > 3
    seen: list[str] = []
    before: int | None = None
    while True:
        page = log.page(7, before)
        seen += [record["version"] for record in page.records]
        before = page.before
        if before is None:
            break
    assert seen == [f"v{number}" for number in reversed(range(20))]


def test_a_record_says_when_what_who_and_how_it_went(tmp_path: Path) -> None:
    log = AuditLog(tmp_path)
    log.append(event())
    (record,) = log.page(5).records
    assert set(record) == {"seq", "time", "action", "version", "digest", "result", "key_id", "request_id"}
    assert (record["seq"], record["key_id"], record["request_id"]) == (1, "key-1", "req-1")


def test_numbers_go_on_after_a_restart(tmp_path: Path) -> None:
    AuditLog(tmp_path).append(event("a"))
    log = AuditLog(tmp_path)
    assert not log.empty
    log.append(event("b"))
    assert [record["seq"] for record in log.page(5).records] == [2, 1]


@pytest.mark.parametrize("cut", [1, 20, 60])
def test_a_line_torn_by_a_crash_is_counted_and_hides_nothing_else(tmp_path: Path, cut: int) -> None:
    log = AuditLog(tmp_path)
    for name in "abc":
        log.append(event(name))
    (file,) = tmp_path.glob("audit-*.jsonl")
    os.truncate(file, file.stat().st_size - cut - 1)
    log = AuditLog(tmp_path)
    log.append(event("d"))
    assert names(log) == ["d", "b", "a"]
    assert log.page(10).torn == 1


def test_a_full_disk_leaves_no_half_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = AuditLog(tmp_path)
    log.append(event("a"))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(OSError, match="No space"):
            log.append(event("lost"))
    log.append(event("b"))
    assert names(log) == ["b", "a"]
    assert [record["seq"] for record in log.page(5).records] == [2, 1]


def test_threads_may_append_at_once(tmp_path: Path) -> None:
    log = AuditLog(tmp_path, rotate_bytes=1000)
    threads = [threading.Thread(target=lambda: [log.append(event()) for _ in range(10)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [record["seq"] for record in log.page(100).records] == list(range(40, 0, -1))


def test_the_state_file_gives_back_what_was_written(tmp_path: Path) -> None:
    spec = VersionSpec(name="a", strength=0.1, parts=(PartSpec(path="a", content="0" * 64),), target={"tail": "impute"})
    state = RegistryState(versions=(spec,), active="a", previous=spec.model_copy(update={"strength": 1 / 3}))
    file = StateFile(tmp_path)
    assert file.read() is None
    file.write(state)
    assert file.read() == state
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


def test_a_failed_write_keeps_the_old_bytes_and_leaves_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(5, "Input/output error")))
    with pytest.raises(OSError, match="Input/output"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


WRITER = """
import sys
from pathlib import Path
from deltaserve.offset_models.registry.state import PartSpec, RegistryState, StateFile, VersionSpec
file = StateFile(Path(sys.argv[1]))
for turn in range(1_000_000):
    name = "ab"[turn % 2]
    spec = VersionSpec(name=name, strength=1.0, parts=(PartSpec(path=name * 400, content="0" * 64),))
    file.write(RegistryState(versions=(spec,), active=name))
    print(flush=True)
"""


def test_kill_9_while_writing_leaves_the_old_state_or_the_new_one(tmp_path: Path) -> None:
    for turn in range(4):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(0.003 * turn)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        state = StateFile(tmp_path).read()
        assert state is not None
        assert state.active in ("a", "b")
