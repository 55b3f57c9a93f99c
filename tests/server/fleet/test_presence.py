"""Who is alive and who has settled, from what replicas tell and how long their counts stand still."""

import pytest

from deltaserve.server.fleet.presence import FORGET_AFTER, Presence, Watcher

CONTACT_S = 30.0


def present(count: int = 1, **more: object) -> Presence:
    return Presence(id="r1.x", replica="r1", contact_s=CONTACT_S, count=count, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("told", "settled"),
    [
        (present(seen=5, holds=5), True),
        (present(seen=6, holds=6), True),
        (present(seen=5, holds=4), False),
        (present(seen=9, holds=9, lineage="of before"), False),  # of a record that others began anew
        (present(seen=5, holds=4, fenced="…", overdue=True), True),
        # fenced by an older generation: it may hold that one, and answer, before it sees this one
        (present(seen=4, holds=3, fenced="…", overdue=True), False),
        # fenced by silence: its next contact may let it answer on the old one, until its deadline
        (present(seen=5, holds=4, fenced="…", overdue=False), False),
    ],
)
def test_a_replica_has_settled_when_no_older_answer_can_begin(told: Presence, settled: bool) -> None:
    assert told.settled(5, "") is settled


def test_the_dead_are_known_by_counts_that_stand_still_while_somebody_watches() -> None:
    watcher = Watcher()
    watcher.saw(100.0, [present(1)])
    assert watcher.alive(present(1), 131.0)  # clocks may differ by a little
    watcher.saw(131.0, [present(2)])
    watcher.saw(160.0, [present(2)])
    assert watcher.alive(present(2), 162.0)
    assert not watcher.alive(present(2), 163.0)
    assert not watcher.forgettable(present(2), 163.0)
    assert watcher.forgettable(present(2), 132.0 + FORGET_AFTER * CONTACT_S)


def test_one_who_was_never_watched_counts_as_alive() -> None:
    assert Watcher().alive(present(), 1e6)
