"""Ray's `user_config` in a fleet: followed once, by whichever replica is first, and never against a later command."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from deltaserve.errors import NotConfigured
from deltaserve.server.ray_serve.wishes import Wishes, wish_of
from tests.support.fleets import WHO, Fleet, fleet_of
from tests.support.offsets import lora_checkpoint

pytestmark = pytest.mark.anyio


class Log:
    """What was said, each line by its first words."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, Mapping[str, Any]]] = []

    def __getattr__(self, level: str) -> Any:
        return lambda event, **values: self.lines.append((event, values))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "offsets"
    folder.mkdir()
    for index, name in enumerate(["a", "b", "c"]):
        lora_checkpoint(folder, name, seed=10 * index + 1)
    return folder


async def followed(fleet: Fleet, offset: str, change: int) -> list[Log]:
    """Every replica is told at the same time, as Ray may do."""
    logs = [Log() for _ in fleet.members]
    each = [Wishes(member.offsets, log) for member, log in zip(fleet.members, logs, strict=True)]
    for wishes in each:
        wishes.take(wish_of({"offset": offset, "change": change}))
    async with asyncio.timeout(10):
        await asyncio.gather(*(wishes.fulfilled() for wishes in each))
    return logs


async def answers(fleet: Fleet) -> list[str]:
    return [await member.answers() for member in fleet.members]


async def test_an_offset_that_nobody_has_is_loaded_and_activated_on_every_replica(root: Path) -> None:
    async with fleet_of(root, 3) as fleet:
        await followed(fleet, "b", 1)
        assert await answers(fleet) == ["b", "b", "b"]
        lines = [(line["action"], line["version"], line["result"]) for line in fleet.shelf.lines]
        assert lines.count(("activate", "b", "ok")) == 1
        assert not [line for line in lines if line[2] == "failed"]


async def test_a_replica_that_starts_later_undoes_no_command(root: Path) -> None:
    async with fleet_of(root, 2) as fleet:
        await followed(fleet, "b", 1)
        await fleet.members[0].offsets.activate("a", actor=WHO)
        await fleet.add()
        logs = await followed(fleet, "b", 1)
        assert await answers(fleet) == ["a", "a", "a"]
        assert [log.lines[0][0] for log in logs] == ["user_config was followed before"] * 3
        await followed(fleet, "b", 2)
        assert await answers(fleet) == ["b", "b", "b"]


async def test_what_cannot_be_loaded_changes_nothing_and_is_said(root: Path) -> None:
    async with fleet_of(root, 1) as fleet:
        (log,) = await followed(fleet, "missing", 1)
        assert await answers(fleet) == ["a"]
        event, values = log.lines[0]
        assert event == "user_config not followed"
        assert "does not exist" in values["reason"]


async def test_a_store_that_is_away_is_waited_for(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deltaserve.server.ray_serve.wishes._AGAIN_S", 0.01)
    async with fleet_of(root, 1) as fleet:
        (member,) = fleet.members
        member.view.cut = True
        log = Log()
        wishes = Wishes(member.offsets, log)
        wishes.take(wish_of({"offset": "b", "change": 1}))
        async with asyncio.timeout(10):
            while not log.lines:  # noqa: ASYNC110  (a log has no event)
                await asyncio.sleep(0.01)
            assert log.lines[0][0] == "user_config waits"
            member.view.cut = False
            await wishes.fulfilled()
        assert await answers(fleet) == ["b"]
        assert [event for event, _ in log.lines] == ["user_config waits", "user_config followed"]


async def test_a_later_wish_takes_the_place_of_one_that_waits(root: Path) -> None:
    async with fleet_of(root, 1) as fleet:
        (member,) = fleet.members
        member.view.cut = True
        wishes = Wishes(member.offsets, Log())
        wishes.take(wish_of({"offset": "b", "change": 1}))
        await asyncio.sleep(0.02)
        member.view.cut = False
        wishes.take(wish_of({"offset": "c", "change": 2}))
        async with asyncio.timeout(10):
            await wishes.fulfilled()
        assert (fleet.shelf.record.active, fleet.shelf.record.change) == ("c", 2)
        await wishes.stop()


@pytest.mark.parametrize(
    ("user_config", "sentence"),
    [
        ({"offset": "b"}, "change: Field required"),
        ({"offset": "b", "change": 0}, "change: Input should be greater than or equal to 1"),
        ({"offset": "b", "change": "2"}, "change: Input should be a valid integer"),
        ({"offset": "../b", "change": 1}, "offset: "),
        ({"offset": "b", "change": 1, "strength": 2}, "strength: Extra inputs are not permitted"),
        ("b", "must be an offset and the number of the change"),
    ],
)
def test_a_user_config_that_is_none_is_told_what_is_wrong(user_config: Any, sentence: str) -> None:
    with pytest.raises(NotConfigured, match=sentence):
        wish_of(user_config)
