"""What is served outlives the process, or the start says why not; and every change is audited."""

from pathlib import Path

import pytest

from deltaserve.errors import BadCheckpoint, Conflict, CorruptState, Unavailable
from deltaserve.offset_models.registry.audit import Actor
from deltaserve.offset_models.registry.registry import Registry
from tests.offset_models.registry.toy_registry import SERVED, make, settled, states
from tests.support.offsets import BookkeepingEngine

pytestmark = pytest.mark.anyio


async def test_the_target_is_part_of_the_digest(root: Path) -> None:
    digests = set()
    for tail in ("impute", "truncate"):
        registry = make(root, BookkeepingEngine(), folder=None, target={"tail": tail})
        await registry.start("a")
        digests.add(registry.resolve(None).digest)
    assert len(digests) == 2


async def test_a_restart_restores_what_was_served(root: Path) -> None:
    first = make(root, BookkeepingEngine())
    await first.start("a")
    await first.load("b", "b", activate=True)
    await first.sum("both", {"a": 2.0, "b": None})
    await first.set_strength("b", 0.75)
    second = make(root, BookkeepingEngine())
    await second.start("c")  # the saved state wins
    assert second.cards()[0][2].digest == first.cards()[0][2].digest
    assert [(name, v.digest) for name, _, v in second.cards()] == [(name, v.digest) for name, _, v in first.cards()]
    change = await second.rollback()
    assert (change.active.name, change.active.strength) == ("b", 1.0)


async def test_a_missing_state_file_beside_an_audit_log_is_reported(root: Path, engine: BookkeepingEngine) -> None:
    await make(root, engine).start("a")
    (root.parent / "state" / "state.json").unlink()
    with pytest.raises(CorruptState, match="missing beside an audit log"):
        await make(root, engine).start("a")


@pytest.mark.parametrize("cut", [0, 1, 40, -2])
async def test_a_torn_state_file_is_reported(root: Path, engine: BookkeepingEngine, cut: int) -> None:
    await make(root, engine).start("a")
    file = root.parent / "state" / "state.json"
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(CorruptState, match="torn"):
        await make(root, engine).start("a")


async def test_an_edited_state_file_is_reported(root: Path, engine: BookkeepingEngine) -> None:
    await make(root, engine).start("a")
    file = root.parent / "state" / "state.json"
    file.write_text(file.read_text().replace('"strength": 1.0', '"strength": 0.0'))
    with pytest.raises(CorruptState, match="digest does not fit"):
        await make(root, engine).start("a")


async def test_a_checkpoint_that_changed_since_is_not_restored(root: Path) -> None:
    first = make(root, BookkeepingEngine())
    await first.start("a")
    await first.load("b", "b")
    (root / "b" / "offset.json").unlink()
    second = make(root, BookkeepingEngine())
    await second.start()
    assert states(second) == {"a": "active", "b": "failed"}
    (root / "a" / "offset.json").write_bytes((root / "c" / "offset.json").read_bytes())
    with pytest.raises(BadCheckpoint):
        await make(root, BookkeepingEngine()).start()


async def test_every_change_is_audited(registry: Registry) -> None:
    who = Actor("key-1", "req-7")
    await registry.load("b", "b", actor=who)
    await registry.activate("b", actor=who)
    with pytest.raises(Conflict):
        await registry.unload("b", actor=who)
    assert registry.audit is not None
    newest = registry.audit.page(3).records
    assert [(r["action"], r["version"], r["result"]) for r in newest] == [
        ("unload", "b", "failed"),
        ("activate", "b", "ok"),
        ("load", "b", "ok"),
    ]
    assert {(r["key_id"], r["request_id"]) for r in newest} == {("key-1", "req-7")}
    assert newest[1]["digest"] == registry.resolve("toy@b").digest
    assert "activate another" in newest[0]["reason"]


async def test_nothing_changes_when_the_state_cannot_be_written(
    registry: Registry, root: Path, engine: BookkeepingEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    state = root.parent / "state" / "state.json"
    before = state.read_bytes()
    monkeypatch.setattr("deltaserve.offset_models.registry.state.write_atomically", full)
    with pytest.raises(Unavailable, match="No space left"):
        await registry.load("b", "b", activate=True)
    await settled()
    assert registry.resolve(SERVED).name == "a"
    assert len(engine.loaded) == 1
    assert state.read_bytes() == before


async def test_the_old_state_returns_when_the_audit_log_cannot_be_written(
    registry: Registry, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    await registry.load("b", "b")
    state = root.parent / "state" / "state.json"
    before = state.read_bytes()
    monkeypatch.setattr("deltaserve.offset_models.registry.audit._append", full)
    with pytest.raises(Unavailable, match="No space left"):
        await registry.activate("b")
    assert registry.resolve(SERVED).name == "a"
    assert state.read_bytes() == before


async def test_a_defect_fails_its_load_and_is_audited_too(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise AssertionError("words of ours that nobody is to read")

    monkeypatch.setattr(registry._builder, "on_loaded", broken)
    with pytest.raises(AssertionError):
        await registry.sum("both", {"a": None})
    assert registry.audit is not None
    newest = registry.audit.page(1).records[0]
    assert (newest["action"], newest["version"], newest["result"]) == ("sum", "both", "failed")
    assert newest["reason"] == "A defect: AssertionError."
