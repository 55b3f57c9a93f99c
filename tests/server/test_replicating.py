"""Real registries as replicas of one fleet: a single server's state is taken over, a swap on one holds on the other."""

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from deltaserve.errors import CorruptState, StateFolderUnusable
from deltaserve.offset_models.registry.audit import Actor
from deltaserve.server import preflight
from deltaserve.server.settings import Settings
from deltaserve.server.wiring import open_here
from tests.support.blackbox import make_model

pytestmark = pytest.mark.anyio
WHO = Actor("key", "req-1")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from benchmarks.swap.site import add_checkpoint

    folder = tmp_path_factory.mktemp("made") / "offsets"
    make_model(folder / "base")
    for seed, name in enumerate(("one", "two"), start=1):
        add_checkpoint(folder, name, seed)
    return folder


def settings(root: Path, **more: Any) -> Settings:
    given = {"offsets_root": root, "offset": "one", "torch_threads": 1, "max_streams": 1, "admin_key": "k", **more}
    return Settings(**given)


async def answers(offsets: Any) -> str:
    async with offsets.pinned(None) as version:
        return str(version.name)


async def test_a_servers_state_becomes_a_fleets_and_every_replica_follows_it(root: Path) -> None:
    alone = settings(root)
    async with AsyncExitStack() as stack:
        single = await open_here(alone, stack)
        await single.add("two", "two", strength=None, activate=True, wait=True, actor=WHO)
    in_fleet = settings(root, fleet_store="file", fleet_poll_s=0.05)
    await preflight.check_state(in_fleet)
    await preflight.check_offset(in_fleet)
    async with AsyncExitStack() as stack:
        first: Any = await open_here(in_fleet, stack)
        second: Any = await open_here(in_fleet.model_copy(update={"fleet_replica": "other"}), stack)
        assert [await answers(one) for one in (first, second)] == ["two", "two"]
        with pytest.raises(StateFolderUnusable, match="Another server uses"):
            await preflight.check_state(alone)
        done = await first.rollback(actor=WHO)
        assert len(done["fleet"]["holds"]) == 2
        assert await answers(second) == "one"
        lines = (await second.audit(10, None))["data"]
        assert [line["seq"] for line in lines] == [3, 2, 1]
        assert lines[0]["action"] == "rollback"
    assert not list((root / ".deltaserve" / "replicas").iterdir())  # they left
    with pytest.raises(CorruptState, match="record of a fleet"):
        await preflight.check_state(alone)


async def test_a_server_by_itself_keeps_a_fleet_out_of_its_folder(root: Path, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        await open_here(settings(root, state_folder=tmp_path / "state"), stack)
        with pytest.raises(StateFolderUnusable, match="not part of a fleet"):
            await preflight.check_state(settings(root, state_folder=tmp_path / "state", fleet_store="file"))
