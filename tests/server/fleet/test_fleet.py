"""Several replicas over one store: they agree, or do not answer."""

import asyncio
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deltaserve.errors import Conflict, ReplicaFenced, StoreUnreachable
from deltaserve.server.fleet.presence import Presence
from deltaserve.server.fleet.stores.ports import Stored
from tests.support.fleets import CONTACT_S, FENCE_S, WHO, Clock, Fleet, Member, fleet_of
from tests.support.offsets import lora_checkpoint

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "offsets"
    folder.mkdir()
    for index, name in enumerate(["a", "b", "c"]):
        lora_checkpoint(folder, name, seed=10 * index + 1)
    return folder


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not true():  # noqa: ASYNC110  (what is waited for has no event)
            await asyncio.sleep(0.005)


async def loaded_everywhere(fleet: Fleet, name: str) -> None:
    first = fleet.members[0]
    await first.offsets.add(name, name, strength=None, activate=False, wait=True, actor=WHO)
    spec = first.registry.catalogue.find(name).spec
    await until(lambda: all(one.has(spec) for one in fleet.shelf.present.values()))


async def activated(member: Member, name: str, **more: Any) -> dict[str, Any]:
    done = await member.offsets.activate(name, actor=WHO, **more)
    told: dict[str, Any] = done["fleet"]
    return told


async def test_the_first_replica_writes_the_record_and_the_others_take_it_over(root: Path) -> None:
    async with fleet_of(root, 3) as fleet:
        assert [await member.answers() for member in fleet.members] == ["a", "a", "a"]
        assert fleet.shelf.record.generation == 1
        assert [line["action"] for line in fleet.shelf.lines] == ["load"]


async def test_an_activation_is_answered_when_every_replica_holds_it(root: Path) -> None:
    async with fleet_of(root, 3) as fleet:
        await loaded_everywhere(fleet, "b")
        running = fleet.members[2].registry.resolve(None)
        with running.pin():
            told = await activated(fleet.members[0], "b")
            assert [await member.answers() for member in fleet.members] == ["b", "b", "b"]
            assert told == {"generation": fleet.shelf.record.generation, "holds": ["r1", "r2", "r3"], "fenced": []}
            assert not running.freed  # an answer that has begun keeps its version
        last = fleet.shelf.lines[-1]
        assert (last["action"], last["replica"], last["generation"]) == ("activate", "r1", told["generation"])


async def test_rollbacks_strengths_sums_and_unloads_reach_every_replica(root: Path) -> None:
    async with fleet_of(root, 2) as fleet:
        one, two = fleet.members
        await loaded_everywhere(fleet, "b")
        await one.offsets.sum("both", {"a": 0.5, "b": None}, activate=True, actor=WHO)
        assert await two.answers() == "both"
        await two.offsets.set_strength("both", 0.25, actor=WHO)
        assert one.registry.resolve(None).strength == 0.25
        await one.offsets.rollback(actor=WHO)
        assert two.registry.resolve(None).strength == 1.0
        await two.offsets.activate("a", actor=WHO)
        await one.offsets.unload("b", actor=WHO)
        assert "b" not in two.registry.catalogue.versions
        assert one.registry.catalogue.state() == two.registry.catalogue.state()


async def test_an_activation_waits_for_nobody_who_cannot_load_and_changes_nothing(root: Path, tmp_path: Path) -> None:
    lacking = Path(shutil.copytree(root, tmp_path / "offsets"))
    shutil.rmtree(lacking / "b")
    async with fleet_of(root, 1) as fleet:
        other = await fleet.add(root=lacking)
        await fleet.members[0].offsets.add("b", "b", strength=None, activate=False, wait=True, actor=WHO)
        await until(lambda: "b" in other.registry.failures())
        with pytest.raises(Conflict, match=r"1? of the 2 live replicas .*r2: b does not exist"):
            await fleet.members[0].offsets.activate("b", actor=WHO)
        assert [await member.answers() for member in fleet.members] == ["a", "a"]
        assert fleet.shelf.lines[-1]["result"] == "failed"


async def test_with_a_quorum_a_replica_that_cannot_follow_is_fenced_and_comes_back(root: Path, tmp_path: Path) -> None:
    lacking = Path(shutil.copytree(root, tmp_path / "offsets"))
    shutil.rmtree(lacking / "b")
    async with fleet_of(root, 1) as fleet:
        one, other = fleet.members[0], await fleet.add(root=lacking)
        await one.offsets.add("b", "b", strength=None, activate=False, wait=True, actor=WHO)
        asked = asyncio.create_task(activated(one, "b", quorum=1))
        await until(lambda: other.replica.standing.seen == 3)
        assert await other.answers() == "a"  # until its deadline
        other.clock.now += FENCE_S + 1
        assert await asked == {"generation": 3, "holds": ["r1"], "fenced": ["r2"]}
        with pytest.raises(ReplicaFenced, match=r"holds generation [12] .* 3 is due"):
            await other.answers()
        shutil.copytree(root / "b", lacking / "b")
        other.clock.now += 31  # when it tries again
        await until(lambda: other.replica.fence is None)
        assert await other.answers() == "b"


async def test_replicas_of_one_name_count_each_for_itself_in_a_quorum(root: Path, tmp_path: Path) -> None:
    lacking = Path(shutil.copytree(root, tmp_path / "offsets"))
    shutil.rmtree(lacking / "b")
    async with fleet_of(root, 1) as fleet:
        for _ in range(2):
            await fleet.add(root=lacking, name="twin")
        await fleet.members[0].offsets.add("b", "b", strength=None, activate=False, wait=True, actor=WHO)
        with pytest.raises(Conflict, match="Not enough of the 3"):
            await activated(fleet.members[0], "b", quorum=2)
        assert fleet.shelf.record.active == "a"


async def test_a_replica_that_lacks_what_is_active_still_takes_orders(root: Path, tmp_path: Path) -> None:
    lacking = Path(shutil.copytree(root, tmp_path / "offsets"))
    shutil.rmtree(lacking / "b")
    async with fleet_of(root, 1) as fleet:
        one, other = fleet.members[0], await fleet.add(root=lacking)
        for turn_back in (lambda: other.offsets.activate("a", actor=WHO), lambda: other.offsets.rollback(actor=WHO)):
            await one.offsets.add("b", "b", strength=None, activate=False, wait=True, actor=WHO)
            asked = asyncio.create_task(activated(one, "b", quorum=1))
            await until(lambda: other.replica.standing.behind > 0 and fleet.shelf.record.active == "b")
            assert other.active == "a"
            done = await turn_back()
            await asked
            assert (done["active"]["name"], done["previous"], fleet.shelf.record.active) == ("a", "b", "a")
            assert fleet.shelf.record.previous == one.registry.catalogue.find("b").spec
            assert await one.answers() == await other.answers() == "a"


async def test_a_fleet_of_which_no_replica_can_load_what_is_active_is_led_back(root: Path, tmp_path: Path) -> None:
    lacking = Path(shutil.copytree(root, tmp_path / "offsets"))
    shutil.rmtree(lacking / "b")
    async with fleet_of(root, 1) as fleet:
        await fleet.members[0].offsets.add("b", "b", strength=None, activate=True, wait=True, actor=WHO)
        await fleet.members[0].stop()
        await fleet.members[0].replica.leave()
        other = await fleet.add(root=lacking)
        with pytest.raises(ReplicaFenced):
            await other.answers()
        await other.offsets.activate("a", actor=WHO)
        assert await other.answers() == "a"


async def test_a_replica_that_is_cut_off_stops_answering_before_the_activation_is_answered(root: Path) -> None:
    async with fleet_of(root, 3) as fleet:
        await loaded_everywhere(fleet, "b")
        lost = fleet.members[2]
        lost.view.cut = True
        asked = asyncio.create_task(activated(fleet.members[0], "b"))
        await until(lambda: fleet.members[1].active == "b")
        await asyncio.sleep(0.05)
        assert await lost.answers() == "a" and not asked.done()
        await fleet.pass_time(CONTACT_S * 0.9)
        await asyncio.sleep(0.05)
        assert not asked.done()
        await fleet.pass_time(CONTACT_S * 0.2)
        await asked
        with pytest.raises(ReplicaFenced, match="has not reached its fleet's store for 33 s"):
            await lost.answers()
        lost.view.cut = False
        await until(lambda: lost.replica.fence is None)
        assert await lost.answers() == "b"
        assert len(fleet.shelf.present) == 3  # its old row is gone


async def test_one_that_was_cut_off_has_no_grace_when_it_is_back(root: Path, tmp_path: Path) -> None:
    lacking = Path(shutil.copytree(root, tmp_path / "offsets"))
    shutil.rmtree(lacking / "b")
    async with fleet_of(root, 1) as fleet:
        lost = await fleet.add(root=lacking)
        lost.view.cut = True
        await fleet.members[0].offsets.add("b", "b", strength=None, activate=False, wait=True, actor=WHO)
        await fleet.pass_time(CONTACT_S * 1.6)
        assert (await activated(fleet.members[0], "b"))["holds"] == ["r1"]
        lost.view.cut = False
        await until(lambda: lost.replica.standing.seen == 3)
        with pytest.raises(ReplicaFenced, match="has not loaded"):
            await lost.answers()


async def test_a_killed_replica_holds_up_activations_until_it_is_surely_fenced(root: Path) -> None:
    async with fleet_of(root, 2) as fleet:
        await loaded_everywhere(fleet, "b")
        await fleet.members[1].stop()
        asked = asyncio.create_task(activated(fleet.members[0], "b"))
        await asyncio.sleep(0.05)
        assert not asked.done()
        await fleet.pass_time(CONTACT_S * 1.1)
        assert (await asked)["holds"] == ["r1"]


async def test_without_the_store_nothing_changes_answers_go_on_and_end_at_the_fence(root: Path) -> None:
    async with fleet_of(root, 2) as fleet:
        await loaded_everywhere(fleet, "b")
        for member in fleet.members:
            member.view.cut = True
        with pytest.raises(StoreUnreachable):
            await fleet.members[0].offsets.activate("b", actor=WHO)
        assert [await member.answers() for member in fleet.members] == ["a", "a"]
        await until(lambda: fleet.members[0].replica.stats["fleet_store_trouble"] == 1.0)
        await fleet.pass_time(CONTACT_S + 1)
        assert all(member.replica.fence for member in fleet.members)
        for member in fleet.members:
            member.view.cut = False
        await until(lambda: not any(member.replica.fence for member in fleet.members))
        assert fleet.members[0].replica.stats["fleet_fenced"] == 0.0


async def test_a_change_of_which_nothing_is_known_is_said_to_be_so_though_it_cannot_be_logged(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with fleet_of(root, 1) as fleet:
        (one,) = fleet.members
        await loaded_everywhere(fleet, "b")

        def lost(*_: object) -> bool:
            one.view.cut = True
            raise StoreUnreachable("whether this change was taken is not known")

        monkeypatch.setattr(one.view, "swap", lost)
        with pytest.raises(StoreUnreachable, match="is not known"):
            await one.offsets.activate("b", actor=WHO)
        one.view.cut = False


async def test_a_store_that_comes_back_empty_gets_the_record_again(root: Path) -> None:
    async with fleet_of(root, 2) as fleet:
        await loaded_everywhere(fleet, "b")
        told = await activated(fleet.members[0], "b")
        fleet.shelf.raw = b""
        await until(lambda: fleet.shelf.record.active == "b")
        assert fleet.shelf.record.generation == told["generation"]
        assert fleet.shelf.lines[-1]["action"] == "restored"


async def test_after_the_store_forgot_who_is_there_a_change_waits_for_whoever_may_answer(root: Path) -> None:
    async with fleet_of(root, 2) as fleet:
        await loaded_everywhere(fleet, "b")
        one, lost = fleet.members
        lost.view.cut = True
        fleet.shelf.raw = b""
        fleet.shelf.present.clear()
        await until(lambda: fleet.shelf.record.generation == 2)
        new = await fleet.add()  # has never seen the one that is cut off
        asked = [asyncio.create_task(activated(member, "b")) for member in (one, new)]
        await until(lambda: one.active == new.active == "b")
        await asyncio.sleep(0.1)
        assert await lost.answers() == "a" and not any(task.done() for task in asked)
        await fleet.pass_time(CONTACT_S * 1.1)
        await asyncio.gather(*asked)
        with pytest.raises(ReplicaFenced):
            await lost.answers()


async def test_an_empty_store_is_not_filled_anew_before_those_who_know_better_are_fenced(root: Path) -> None:
    async with fleet_of(root, 1, raw=b"") as fleet:
        await loaded_everywhere(fleet, "b")
        await activated(fleet.members[0], "b")
        known = fleet.members[0]
        known.view.cut = True  # and what it knows with it
        fleet.shelf.raw, fleet.shelf.forgetful = b"", True
        joined = asyncio.create_task(fleet.add(clock=Clock(0.0)))
        await asyncio.sleep(0.05)
        assert fleet.shelf.record.generation == 0
        known.view.cut = False
        new = await joined
        assert await new.answers() == "b"


async def test_one_that_was_away_while_the_record_was_begun_anew_brings_nothing_back(root: Path) -> None:
    async with fleet_of(root, 2, forgetful=False) as fleet:
        await loaded_everywhere(fleet, "b")
        one, old = fleet.members
        for name in ("b", "a"):
            await activated(one, name)
        await until(lambda: old.replica.standing.holds == 4)
        for member in (old, one):
            await member.stop()
        fleet.shelf.raw = b""
        fleet.shelf.present.clear()
        old.clock.now += 10 * CONTACT_S
        new = await fleet.add()
        await new.offsets.add("b", "b", strength=None, activate=True, wait=True, actor=WHO)
        old.start()
        await until(lambda: old.replica.fence is None)
        assert (await old.answers(), await new.answers()) == ("b", "b")
        assert (fleet.shelf.record.active, fleet.shelf.record.generation) == ("b", 3)
        assert (await activated(old, "a"))["holds"] == ["r2", "r3"]


async def test_two_operators_at_once_both_get_their_way_or_one_is_told_so(root: Path) -> None:
    async with fleet_of(root, 2) as fleet:
        for name in ("b", "c"):
            await loaded_everywhere(fleet, name)
        one, two = fleet.members
        done = await asyncio.gather(activated(one, "b"), activated(two, "c"), return_exceptions=True)
        refused = [each for each in done if isinstance(each, BaseException)]
        assert all(isinstance(each, Conflict) for each in refused)
        last = fleet.shelf.record.active
        await until(lambda: one.active == two.active == last)
        assert last in ("b", "c") and await one.answers() == await two.answers() == last


async def test_clocks_that_are_off_by_an_hour_change_nothing(root: Path) -> None:
    async with fleet_of(root, 1) as fleet:
        await fleet.add(clock=Clock(-3600.0))
        await fleet.add(clock=Clock(3600.0))
        await loaded_everywhere(fleet, "b")
        assert (await activated(fleet.members[1], "b"))["holds"] == ["r1", "r2", "r3"]


async def test_a_replica_that_starts_while_the_store_is_away_answers_nothing_until_it_is_there(root: Path) -> None:
    async with fleet_of(root, 1) as fleet:
        late = fleet.make(cut=True)
        late.start()
        await late.replica.first_turn.wait()
        with pytest.raises(ReplicaFenced, match="has not reached"):
            await late.answers()
        late.view.cut = False
        await until(lambda: late.replica.fence is None)
        assert await late.answers() == "a"


async def test_status_shows_who_holds_what_and_the_streams_on_it(root: Path) -> None:
    async with fleet_of(root, 2) as fleet:
        await loaded_everywhere(fleet, "b")
        session = await fleet.members[1].registry.resolve(None).open(1.0)
        await activated(fleet.members[0], "b")
        await until(lambda: any(row.streams for row in list(fleet.shelf.present.values())[1].rows))
        shown = await fleet.members[0].offsets.fleet()
        session.close()
        assert (shown["generation"], shown["active"]) == (3, "b")
        rows = {row["replica"]: row for row in shown["replicas"]}
        assert [(row["generation"], row["behind"], row["alive"]) for row in rows.values()] == [(3, 0, True)] * 2
        assert {row["name"]: row["streams"] for row in rows["r2"]["streams"]} == {"a": 1, "b": 0}


async def test_an_offset_that_no_replica_can_load_any_more_can_be_unloaded(root: Path, tmp_path: Path) -> None:
    lacking = Path(shutil.copytree(root, tmp_path / "offsets"))
    shutil.rmtree(lacking / "b")
    async with fleet_of(root, 1) as fleet:
        await loaded_everywhere(fleet, "b")
        other = await fleet.add(root=lacking)
        await other.offsets.unload("b", actor=WHO)
        await until(lambda: "b" not in fleet.members[0].registry.catalogue.versions)
        assert [spec.name for spec in fleet.shelf.record.versions] == ["a"]


async def test_a_replica_that_ends_in_the_middle_of_a_contact_leaves_no_row(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with fleet_of(root, 1) as fleet:
        (member,) = fleet.members
        begun, contact = threading.Event(), member.view.contact

        def slow(presence: Presence) -> Stored:
            begun.set()
            time.sleep(0.1)
            return contact(presence)

        monkeypatch.setattr(member.view, "contact", slow)
        await until(begun.is_set)
        await member.stop()
        await member.replica.leave()
        await asyncio.sleep(0.2)  # a contact that went on would have come to its end
        assert fleet.shelf.present == {}
