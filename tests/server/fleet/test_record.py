"""The record, and how one replica's change of what it has becomes a change of the record."""

import pytest

from deltaserve.errors import Conflict, CorruptState
from deltaserve.offset_models.registry.state import PartSpec, RegistryState, VersionSpec, sealed
from deltaserve.server.fleet.record import Record, asked, decode, encode, merged, without


def spec(name: str, strength: float = 1.0, target: str = "impute") -> VersionSpec:
    part = PartSpec(path=name, content=f"{ord(name[0]):064x}")
    return VersionSpec(name=name, strength=strength, parts=(part,), target={"tail": target})


def state(names: str, active: str | None = "a", previous: str | None = None, **strengths: float) -> RegistryState:
    versions = tuple(spec(name, strengths.get(name, 1.0)) for name in names)
    return RegistryState(versions=versions, active=active, previous=spec(previous) if previous else None)


def record(names: str, active: str | None = "a", previous: str | None = None, **strengths: float) -> Record:
    there = state(names, active, previous, **strengths)
    return Record(
        versions=there.versions, active=active, previous=there.previous, generation=7, fence_s=10.0, lineage="one"
    )


@pytest.mark.parametrize(
    ("there", "old", "new", "becomes"),
    [
        (record("a"), state("a"), state("ab"), record("ab")),
        (record("ab"), state("ab"), state("ab", "b", "a"), record("ab", "b", "a")),
        (record("ab"), state("ab"), state("ab", a=0.5), record("ab", a=0.5)),
        (record("ab"), state("ab"), state("a"), record("a")),
        # what this replica could not load stays, and so does what others did to something else
        (record("abc"), state("ab"), state("ab", "b", "a"), record("abc", "b", "a")),
        (record("ab", "b", "a"), state("a"), state("ac"), record("abc", "b", "a")),
        # others did the same
        (record("ab"), state("a"), state("ab"), record("ab")),
        (record("ab", "b"), state("ab"), state("ab", "b"), record("ab", "b")),
    ],
)
def test_a_change_is_merged_into_the_record(
    there: Record, old: RegistryState, new: RegistryState, becomes: Record
) -> None:
    result = merged(there, old, new, 10.0)
    assert result == becomes.model_copy(update={"generation": 8})


@pytest.mark.parametrize(
    ("there", "old", "new", "sentence"),
    [
        (record("abc", "c"), state("abc"), state("abc", "b"), "changed the active offset"),
        (record("ab", b=0.5), state("ab"), state("ab", b=0.25), "changed the offset 'b'"),
        (record("a"), state("ab"), state("ab", "b"), "was unloaded in the meantime"),
        (record("ab", "b"), state("ab"), state("a"), "is active"),
        (record("abcdefghijklmnop"), state("a"), state("aq"), "which is the limit"),
    ],
)
def test_what_two_operators_do_to_the_same_thing_is_a_conflict(
    there: Record, old: RegistryState, new: RegistryState, sentence: str
) -> None:
    with pytest.raises(Conflict, match=sentence):
        merged(there, old, new, 10.0)


def test_tail_policies_of_replicas_are_their_own_and_no_change() -> None:
    mine = RegistryState(versions=(spec("a", target="truncate"), spec("b", target="truncate")), active="a")
    result = merged(record("ab"), mine, mine.model_copy(update={"active": "b"}), 10.0)
    assert (result.versions, result.active) == (record("ab").versions, "b")


def test_an_entry_that_nobody_can_load_can_be_dropped_unless_it_is_active() -> None:
    assert without(record("ab", "a", "b"), "b") == record("a").model_copy(update={"generation": 8})
    with pytest.raises(Conflict, match="is active"):
        without(record("ab"), "a")


def test_a_single_servers_state_is_the_first_generation() -> None:
    kept = state("ab", "b", "a")
    taken = decode(sealed(kept))
    assert (taken.versions, taken.active, taken.previous) == (kept.versions, kept.active, kept.previous)
    assert (taken.generation, taken.format) == (1, 2)
    assert decode(sealed(RegistryState())).generation == 0


def test_records_that_were_begun_apart_know_each_other() -> None:
    one, other = (merged(Record(), RegistryState(), state("a"), 10.0) for _ in range(2))
    assert one.foreign(other) and not one.foreign(one.next(active=None)) and not one.foreign(Record())


def test_a_record_comes_back_as_it_was_and_a_damaged_one_is_refused() -> None:
    there = record("ab", "b", "a")
    assert decode(encode(there)) == there
    with pytest.raises(CorruptState, match="digest does not fit"):
        decode(encode(there).replace(b'"active": "b"', b'"active": "a"'))


def test_a_configurations_change_is_made_once_whatever_operators_did_since() -> None:
    made = asked(record("ab"), "b", 3)
    assert (made.active, made.previous, made.change, made.generation) == ("b", spec("a"), 3, 8)
    rolled = made.next(active="a")
    for number in (1, 3):
        with pytest.raises(Conflict, match=f"Change {number} was made before: the last one was 3"):
            asked(rolled, "b", number)
    assert asked(rolled, "b", 4).active == "b"


def test_a_change_that_names_what_is_active_keeps_what_a_rollback_goes_to() -> None:
    made = asked(record("ab", "b", "a"), "b", 1)
    assert (made.active, made.previous, made.change) == ("b", spec("a"), 1)


def test_a_change_that_names_what_is_not_loaded_is_refused() -> None:
    with pytest.raises(Conflict, match="was unloaded in the meantime"):
        asked(record("a"), "b", 1)


def test_replicas_of_an_earlier_release_can_read_a_record_without_such_changes() -> None:
    assert b'"change"' not in encode(record("ab"))
    made = asked(record("ab"), "b", 3)
    assert decode(encode(made)) == made
