"""Every store keeps one record by compare-and-set, one audit log, and who is present."""

import fcntl
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from pytest import MonkeyPatch

from deltaserve.errors import CorruptState, StoreUnreachable
from deltaserve.offset_models.demo.process import free_port
from deltaserve.offset_models.registry.audit import LOCAL, AuditLog, Event
from deltaserve.offset_models.registry.state import PartSpec, RegistryState, StateFile, VersionSpec
from deltaserve.server.fleet.presence import Presence, Watcher
from deltaserve.server.fleet.record import Record
from deltaserve.server.fleet.stores import shared_folder
from deltaserve.server.fleet.stores.ports import Store
from deltaserve.server.fleet.stores.shared_folder import SharedFolder

EVENT = Event("activate", "a", None, LOCAL, "ok", replica="r1", generation=1)
needs_redis = pytest.mark.skipif(
    not (shutil.which("redis-server") and find_spec("redis")),
    reason="needs redis-server and the client: apt-get install redis-server, pip install 'deltaserve[redis]'",
)


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    port = free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    server = subprocess.Popen(["redis-server", *options], stdout=subprocess.DEVNULL)
    try:
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.terminate()
        server.wait()


@pytest.fixture(params=["folder", pytest.param("redis", marks=needs_redis)])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Store]:
    """Opens the same store, each time as another replica."""
    if request.param == "folder":
        return lambda: SharedFolder(tmp_path / "state")
    from deltaserve.server.fleet.stores.redis_store import RedisStore

    url = request.getfixturevalue("redis_url")
    return lambda: reached(RedisStore(url, tmp_path.name))


def reached(store: Store) -> Store:
    for _ in range(100):
        try:
            store.read()
            return store
        except StoreUnreachable:
            time.sleep(0.05)
    raise AssertionError("redis-server did not start")


def record(generation: int) -> Record:
    part = PartSpec(path="a", content="0" * 64)
    spec = VersionSpec(name="a", strength=1.0, parts=(part,))
    return Record(versions=(spec,), active="a", generation=generation)


def test_of_two_writers_one_wins_and_the_other_is_told(opened: Callable[[], Store]) -> None:
    one, two = opened(), opened()
    before = one.read()
    assert (before.record.generation, before) == (0, two.read())
    assert one.swap(before.mark, record(1), EVENT)
    assert not two.swap(before.mark, record(1), EVENT)
    there = two.read()
    assert there.record == record(1)
    assert two.swap(there.mark, record(2), EVENT)
    assert one.read().record.generation == 2
    assert [line["generation"] for line in one.page(10).records] == [1, 1]  # the loser left no line


def test_many_writers_at_once_lose_no_change(opened: Callable[[], Store]) -> None:
    def write() -> None:
        store, written = opened(), 0
        while written < 5:
            there = store.read()
            written += store.swap(there.mark, record(there.record.generation + 1), EVENT)

    writers = [threading.Thread(target=write) for _ in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert opened().read().record.generation == 15
    lines = opened().page(100).records
    assert [line["seq"] for line in lines] == list(range(15, 0, -1))


def test_the_first_change_may_come_while_another_replica_reads(monkeypatch: MonkeyPatch, tmp_path: Path) -> None:
    reader, writer = SharedFolder(tmp_path / "state"), SharedFolder(tmp_path / "state")
    looked = shared_folder._record_file

    def written_after_the_look(folder: Path) -> bytes | None:
        found = looked(folder)
        if found is None:
            assert writer.swap(b"", record(1), EVENT)
        return found

    monkeypatch.setattr(shared_folder, "_record_file", written_after_the_look)
    assert reader.read().record == record(1)


def test_pages_of_the_log_are_the_fleets(opened: Callable[[], Store]) -> None:
    for store in (opened(), opened(), opened()):
        store.append(EVENT)
    first = opened().page(2)
    assert ([line["seq"] for line in first.records], first.before) == ([3, 2], 2)
    last = opened().page(2, first.before)
    assert ([line["seq"] for line in last.records], last.before) == ([1], None)
    assert last.records[0]["replica"] == "r1" and last.records[0]["key_id"] == "local"


def test_replicas_see_each_other_until_they_leave(opened: Callable[[], Store]) -> None:
    one, two = opened(), opened()
    told = Presence(id="r1.x", replica="r1", count=3, contents=("0" * 64,), failed={"b": "gone"})
    one.contact(told)
    assert list(two.present()) == [told]
    two.leave(Presence(id="r1.x", replica="r1", count=2))  # it has told something since
    assert list(two.present()) == [told]
    two.leave(told)
    assert list(one.present()) == []


def test_a_replica_whose_row_is_gone_is_told_so(opened: Callable[[], Store]) -> None:
    one, told = opened(), Presence(id="r1.x", replica="r1", count=1)
    assert one.contact(told).added
    assert not one.contact(Presence(id="r1.x", replica="r1", count=2)).added
    opened().leave(Presence(id="r1.x", replica="r1", count=2))
    assert one.contact(Presence(id="r1.x", replica="r1", count=3)).added


def test_a_change_ends_the_wait(opened: Callable[[], Store]) -> None:
    one, two = opened(), opened()
    one.contact(Presence(id="r1.x", replica="r1"))
    one.wait(0.01)  # by now it listens
    there = two.read()
    timer = threading.Timer(0.1, lambda: two.swap(there.mark, record(1), EVENT))
    began = time.monotonic()
    timer.start()
    one.wait(20.0)
    assert time.monotonic() - began < 15.0
    timer.join()


def test_a_single_servers_folder_becomes_a_fleets_with_its_log(tmp_path: Path) -> None:
    spec = record(1).versions[0]
    StateFile(tmp_path).write(RegistryState(versions=(spec,), active="a"))
    AuditLog(tmp_path).append(Event("load", "a", spec.digest, LOCAL, "ok"))
    store = SharedFolder(tmp_path)
    there = store.read()
    assert (there.record.versions, there.record.active, there.record.generation) == ((spec,), "a", 1)
    assert store.swap(there.mark, record(2), EVENT)
    assert [line["seq"] for line in store.page(10).records] == [2, 1]
    with pytest.raises(CorruptState, match="record of a fleet"):
        StateFile(tmp_path).read()


def test_who_reads_the_log_does_not_end_a_line_that_another_is_writing(tmp_path: Path) -> None:
    store = SharedFolder(tmp_path)
    store.append(EVENT)
    (path,) = tmp_path.glob("audit-*.jsonl")
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    assert store.page(10).torn == 1
    assert path.read_bytes() == whole[:-9]


def test_a_failure_before_the_first_record_is_logged_and_no_sign_of_a_loss(tmp_path: Path) -> None:
    store = SharedFolder(tmp_path)
    store.append(EVENT)
    there = store.read()
    assert there.record.generation == 0
    assert store.swap(there.mark, record(1), EVENT)
    (tmp_path / "state.json").unlink()
    with pytest.raises(CorruptState, match="missing beside an audit log"):
        store.read()


def test_a_replica_that_is_stopped_while_it_writes_holds_up_changes_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deltaserve.server.fleet.stores.shared_folder._LOCKED_WITHIN_S", 0.05)
    store = SharedFolder(tmp_path)
    with (tmp_path / "writing.lock").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(StoreUnreachable, match="does not finish"):
            store.swap(b"", record(1), EVENT)
        assert store.contact(Presence(id="r1.x", replica="r1")).record.generation == 0


def test_a_log_that_cannot_be_written_takes_the_record_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SharedFolder(tmp_path)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(AuditLog, "append", full)
    with pytest.raises(StoreUnreachable, match="No space left"):
        store.swap(b"", record(1), EVENT)
    assert store.read().record.generation == 0


@needs_redis
def test_a_redis_that_is_away_is_said_so_without_delay() -> None:
    from deltaserve.server.fleet.stores.redis_store import RedisStore

    store = RedisStore(f"redis://127.0.0.1:{free_port()}/0", "x")
    with pytest.raises(StoreUnreachable, match="nothing can be changed"):
        store.read()
    with pytest.raises(StoreUnreachable, match="whether this change was taken is not known"):
        store.swap(b"", record(1), EVENT)
    store.wait(0.01)


def test_a_row_that_a_power_cut_left_half_written_stands_for_its_owner_and_stops_nobody(tmp_path: Path) -> None:
    store = SharedFolder(tmp_path)
    store.contact(Presence(id="one", replica="r1", count=3, contact_s=5.0))
    broken = tmp_path / "replicas" / "two.json"
    broken.write_bytes(b"")
    one, two = store.present()
    assert one.replica == "r1"
    assert (two.id, two.holds, two.contact_s, two.settled(1, "")) == ("two", None, 5.0, False)
    watcher = Watcher()
    for now in (0.0, 5.0, 5.5):
        watcher.saw(now, store.present())
    assert watcher.alive(two, 5.0) and not watcher.alive(two, 5.5)
    store.contact(Presence(id="two", replica="r2", count=1, contact_s=5.0))  # its owner lives
    assert [each.replica for each in store.present()] == ["r1", "r2"]
    broken.write_bytes(b"{")
    store.leave(two)
    assert not broken.exists()
