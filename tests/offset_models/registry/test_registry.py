"""Loading, activation, rollback, sums and draining, over an engine that keeps books."""

import asyncio
import shutil
import threading
from pathlib import Path

import pytest

from deltaserve.errors import BadCheckpoint, BadRequest, Conflict, ModelNotFound, Unavailable
from deltaserve.offset_models.registry.registry import Registry
from deltaserve.offset_models.registry.state import RegistryState, StateFile
from tests.offset_models.registry.toy_registry import SERVED, make, settled, states, until
from tests.support.offsets import BookkeepingEngine

pytestmark = pytest.mark.anyio


async def test_the_first_start_loads_and_activates_the_configured_checkpoint(registry: Registry) -> None:
    version = registry.resolve(SERVED)
    assert registry.resolve(None) is version is registry.active
    assert version.fingerprint == f"ds-a-{version.digest[:12]}"
    assert (version.metrics, version.max_context) == ({"forget_rouge": 0.1}, 128)
    assert states(registry) == {"a": "active"}


async def test_without_any_checkpoint_no_offset_is_active(root: Path, engine: BookkeepingEngine) -> None:
    registry = make(root, engine)
    await registry.start()
    with pytest.raises(Unavailable, match="No offset is active"):
        registry.resolve(SERVED)
    assert registry.cards() == []


@pytest.mark.parametrize("model", ["other", "toy@", "toy@zzz", "other@a", "", "@a", "toy@a@a"])
async def test_unknown_models_are_not_found(registry: Registry, model: str) -> None:
    with pytest.raises(ModelNotFound):
        registry.resolve(model)


async def test_loaded_offsets_answer_under_their_own_names(registry: Registry) -> None:
    await registry.load("b", "b", strength=0.5)
    assert registry.resolve("toy@b").strength == 0.5
    assert registry.resolve("toy@a") is registry.active
    assert [card[0] for card in registry.cards()] == ["toy", "toy@b"]


async def test_a_damaged_copy_of_what_is_loaded_is_refused_all_the_same(registry: Registry, root: Path) -> None:
    shutil.copytree(root / "a", root / "copy")
    weights = root / "copy" / "adapter" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(BadCheckpoint, match="may be truncated"):
        await registry.load("copy", "copy")
    assert states(registry) == {"a": "active", "copy": "failed"}


async def test_a_first_start_that_failed_does_not_stand_in_the_way_of_the_next(
    root: Path, engine: BookkeepingEngine
) -> None:
    weights = root / "a" / "adapter" / "adapter_model.safetensors"
    raw = weights.read_bytes()
    weights.write_bytes(raw[:-1])
    failed = make(root, engine)
    with pytest.raises(BadCheckpoint):
        await failed.start("a")
    await failed.close()
    weights.write_bytes(raw)
    registry = make(root, engine)
    await registry.start("a")
    assert states(registry) == {"a": "active"}
    await registry.close()


async def test_activation_is_seen_by_the_next_request_and_names_the_previous_one(registry: Registry) -> None:
    before = registry.resolve(SERVED)
    loaded = await registry.load("b", "b")
    assert registry.resolve(SERVED) is before
    change = await registry.activate("b")
    assert (change.active, change.previous) == (loaded, "a")
    assert registry.resolve(SERVED) is loaded
    assert states(registry) == {"a": "ready", "b": "active"}


async def test_activating_the_active_one_keeps_the_way_back(registry: Registry) -> None:
    await registry.load("b", "b", activate=True)
    assert (await registry.activate("b")).previous == "b"
    assert (await registry.rollback()).active.name == "a"


async def test_rollback_goes_back_and_forth(registry: Registry) -> None:
    await registry.load("b", "b", activate=True)
    assert (await registry.rollback()).active.name == "a"
    assert (await registry.rollback()).active.name == "b"


async def test_without_a_previous_one_rollback_is_a_conflict(registry: Registry) -> None:
    with pytest.raises(Conflict, match="roll back"):
        await registry.rollback()


async def test_a_stream_keeps_its_version_until_it_closes(registry: Registry, engine: BookkeepingEngine) -> None:
    await registry.load("b", "b", activate=True)
    await registry.load("c", "c", activate=True)
    old = registry.resolve("toy@a")
    session = await old.open(1.0)
    await registry.unload("a")
    assert states(registry)["a"] == "draining"
    assert old.streams == 1
    with pytest.raises(ModelNotFound):
        registry.resolve("toy@a")
    assert len(engine.loaded) == 3
    session.close()
    session.close()  # once more changes nothing
    await settled()
    assert len(engine.loaded) == 2
    assert "a" not in states(registry)
    with pytest.raises(Unavailable, match="was unloaded"):
        await old.open(1.0)


async def test_a_pin_alone_keeps_the_weights(registry: Registry, engine: BookkeepingEngine) -> None:
    await registry.load("b", "b")
    with registry.resolve("toy@b").pin() as version:
        await registry.unload("b")
        (await version.open(1.0)).close()
        await settled()
        assert len(engine.loaded) == 2
    await settled()
    assert len(engine.loaded) == 1


async def test_the_active_version_cannot_be_unloaded(registry: Registry) -> None:
    with pytest.raises(Conflict, match="activate another"):
        await registry.unload("a")
    with pytest.raises(ModelNotFound):
        await registry.unload("zzz")


async def test_a_new_strength_is_a_new_version_on_the_same_weights(
    registry: Registry, engine: BookkeepingEngine
) -> None:
    old = registry.resolve(SERVED)
    session = await old.open(1.0)
    new = await registry.set_strength("a", 0.25)
    assert registry.resolve(SERVED) is new
    assert (old.strength, new.strength) == (1.0, 0.25)
    assert old.digest != new.digest
    assert engine.loads == 1
    (await new.open(1.0)).close()
    assert engine.opened[-2:] == [[(1, 1.0)], [(1, 0.25)]]
    session.close()
    assert (await registry.rollback()).active is old
    assert await registry.set_strength("a", 1.0) is old


@pytest.mark.parametrize("strength", [float("nan"), float("inf"), 17.0])
async def test_a_strength_out_of_range_is_refused(registry: Registry, strength: float) -> None:
    with pytest.raises(BadRequest, match="strength"):
        await registry.set_strength("a", strength)
    assert registry.resolve(SERVED).strength == 1.0


async def test_a_superseded_strength_of_an_idle_version_is_freed(registry: Registry, engine: BookkeepingEngine) -> None:
    await registry.load("b", "b")
    old = registry.resolve("toy@b")
    await registry.set_strength("b", 0.5)
    assert old.freed
    assert len(engine.loaded) == 2  # the weights are still used by the new one
    await registry.unload("b")
    await settled()
    assert len(engine.loaded) == 1


async def test_a_sum_adds_the_offsets_at_their_strengths(registry: Registry, engine: BookkeepingEngine) -> None:
    await registry.load("b", "b", strength=0.5)
    both = await registry.sum("both", {"a": 2.0, "b": None})
    (await both.open(1.0)).close()
    assert engine.opened[-1] == [(1, 2.0), (2, 0.5)]
    half = await registry.set_strength("both", 0.5)
    (await half.open(1.0)).close()
    assert engine.opened[-1] == [(1, 1.0), (2, 0.25)]
    assert engine.loads == 2


async def test_a_sum_outlives_the_names_it_was_made_of(registry: Registry, engine: BookkeepingEngine) -> None:
    await registry.load("b", "b")
    both = await registry.sum("both", {"a": None, "b": None})
    await registry.unload("b")
    await settled()
    (await both.open(1.0)).close()
    assert len(engine.loaded) == 2
    with pytest.raises(BadRequest, match="at least one"):
        await registry.sum("none", {})
    with pytest.raises(ModelNotFound):
        await registry.sum("none", {"zzz": None})


async def test_loading_the_same_again_changes_nothing_and_another_is_a_conflict(registry: Registry) -> None:
    version = registry.resolve(SERVED)
    assert await registry.load("a", "a") is version
    with pytest.raises(Conflict, match="another digest"):
        await registry.load("a", "b")
    with pytest.raises(Conflict, match="another digest"):
        await registry.load("a", "a", strength=0.5)
    assert registry.resolve(SERVED) is version


async def test_concurrent_loads_of_one_checkpoint_load_it_once(registry: Registry, engine: BookkeepingEngine) -> None:
    versions = await asyncio.gather(*(registry.load("b", "b") for _ in range(4)))
    assert len(set(versions)) == 1
    assert engine.loads == 2


async def test_activation_does_not_wait_for_a_load(registry: Registry, engine: BookkeepingEngine) -> None:
    await registry.load("b", "b")
    engine.gate = asyncio.Event()
    loading = asyncio.create_task(registry.load("c", "c"))
    await until(lambda: states(registry).get("c") == "loading")
    async with asyncio.timeout(5):
        await registry.activate("b")
    assert registry.resolve(SERVED).name == "b"
    engine.gate.set()
    await loading
    assert states(registry) == {"a": "ready", "b": "active", "c": "ready"}


async def test_a_caller_that_leaves_does_not_stop_the_change(registry: Registry, engine: BookkeepingEngine) -> None:
    engine.gate = asyncio.Event()
    loading = asyncio.create_task(registry.load("b", "b", activate=True))
    await until(lambda: states(registry).get("b") == "loading")
    loading.cancel()
    await asyncio.gather(loading, return_exceptions=True)
    engine.gate.set()
    await until(lambda: registry.resolve(SERVED).name == "b")


async def test_disk_and_memory_agree_after_a_caller_leaves_during_the_write(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    await registry.load("b", "b")
    at_disk, go_on, write = threading.Event(), threading.Event(), StateFile.write

    def slowly(file: StateFile, state: RegistryState) -> None:
        at_disk.set()
        assert go_on.wait(5)
        write(file, state)

    monkeypatch.setattr(StateFile, "write", slowly)
    activating = asyncio.create_task(registry.activate("b"))
    await asyncio.to_thread(at_disk.wait, 5)
    activating.cancel()
    await asyncio.gather(activating, return_exceptions=True)
    assert registry.resolve(SERVED).name == "a"
    go_on.set()
    await until(lambda: registry.resolve(SERVED).name == "b")
    assert (await registry.rollback()).active.name == "a"  # the lock was let go


async def test_the_canary_sings_behind_the_gate_and_streams_do_not(
    registry: Registry, engine: BookkeepingEngine
) -> None:
    before = engine.behind_gates
    version = await registry.load("b", "b")
    assert engine.behind_gates == before + 1
    (await version.open(1.0)).close()
    assert engine.behind_gates == before + 1


@pytest.mark.parametrize(
    ("offset", "reason"), [(0.0, "offset of zero"), (float("nan"), "finite"), (float("inf"), "finite")]
)
async def test_the_canary_refuses_offsets_of_no_use(
    registry: Registry, engine: BookkeepingEngine, offset: float, reason: str
) -> None:
    before = registry.cards()
    engine.offset = offset
    with pytest.raises(BadCheckpoint, match=reason):
        await registry.load("b", "b", activate=True)
    assert registry.cards() == before
    assert (len(engine.loaded), engine.sessions) == (1, 0)
    failed = registry.describe()[-1]
    assert (failed["name"], failed["state"]) == ("b", "failed")
    assert reason in failed["reason"]
    engine.offset = 0.5
    await registry.load("b", "b")
    assert states(registry) == {"a": "active", "b": "ready"}


async def test_a_failed_load_can_be_dismissed(registry: Registry) -> None:
    with pytest.raises(BadCheckpoint):
        await registry.load("bad", "no/such/folder")
    assert states(registry)["bad"] == "failed"
    await registry.unload("bad")
    assert "bad" not in states(registry)


@pytest.mark.parametrize("name", ["", ".", "../x", "a b", "x" * 65, "a\n"])
async def test_names_are_plain(registry: Registry, name: str) -> None:
    with pytest.raises(BadRequest, match="name"):
        await registry.load(name, "b")


async def test_the_number_of_loaded_offsets_is_bounded(root: Path, engine: BookkeepingEngine) -> None:
    registry = make(root, engine, max_versions=2)
    await registry.start("a")
    await registry.load("b", "b")
    with pytest.raises(Conflict, match="limit"):
        await registry.load("c", "c")
    assert len(engine.loaded) == 2
