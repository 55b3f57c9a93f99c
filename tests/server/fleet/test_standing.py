"""When a replica may answer: the fence as a table of what it heard, saw and held, on its own clock."""

import pytest

from deltaserve.server.fleet.standing import Standing

CONTACT_S = 30.0
FENCE_S = 10.0


def after(*events: tuple[str, float, int]) -> Standing:
    """Each event: what, when, which generation."""
    standing = Standing()
    for what, at, generation in events:
        if what == "lapsed":
            standing = standing.lapsed()
        else:
            standing = standing.heard(at, generation, FENCE_S) if what == "heard" else standing.converged(generation)
    return standing


JOINED = (("heard", 0.0, 1), ("holds", 0.0, 1))


@pytest.mark.parametrize(
    ("events", "now", "sentence"),
    [
        ((), 0.0, "has not reached"),
        ((("heard", 0.0, 1),), 1.0, "has not loaded"),
        (JOINED, 30.0, None),
        (JOINED, 30.1, "has not reached its fleet's store for 30 s"),
        ((*JOINED, ("heard", 29.0, 1)), 58.0, None),
        ((*JOINED, ("heard", 5.0, 2)), 15.0, None),
        ((*JOINED, ("heard", 5.0, 2)), 15.1, "holds generation 1 of its fleet's offsets, and 2 is due"),
        ((*JOINED, ("heard", 5.0, 2), ("holds", 6.0, 2)), 30.0, None),
        # a newer generation does not put off the deadline of one that was missed
        ((*JOINED, ("heard", 5.0, 2), ("heard", 14.0, 3)), 15.1, "and 3 is due"),
        ((*JOINED, ("heard", 5.0, 2), ("holds", 8.0, 2), ("heard", 14.0, 3)), 24.0, None),
        # holding an older one than is due is not enough
        ((*JOINED, ("heard", 5.0, 3), ("holds", 6.0, 2)), 15.1, "holds generation 2"),
        ((*JOINED, ("heard", 5.0, 2), ("heard", 20.0, 2), ("holds", 21.0, 2)), 25.0, None),
        # one that was silent for too long answers nothing before it holds the newest: no grace, no older one
        ((*JOINED, ("lapsed", 40.0, 0), ("heard", 40.0, 2)), 40.1, "has not loaded"),
        ((*JOINED, ("lapsed", 40.0, 0), ("heard", 40.0, 2), ("holds", 40.0, 1)), 40.1, "holds generation 1"),
        ((*JOINED, ("lapsed", 40.0, 0), ("heard", 40.0, 2), ("holds", 40.0, 2)), 40.1, None),
        ((*JOINED, ("lapsed", 40.0, 0), ("heard", 40.0, 1), ("holds", 40.0, 1)), 40.1, None),
    ],
)
def test_the_fence(events: tuple[tuple[str, float, int], ...], now: float, sentence: str | None) -> None:
    reason = after(*events).fence(now, CONTACT_S)
    assert reason is None if sentence is None else reason is not None and sentence in reason


def test_what_was_held_is_not_lost_by_reading_an_older_record() -> None:
    standing = after(*JOINED, ("holds", 1.0, 5), ("heard", 2.0, 4))
    assert (standing.seen, standing.holds, standing.behind) == (5, 5, 0)


def test_only_a_replica_past_its_deadline_is_overdue() -> None:
    behind = after(*JOINED, ("heard", 5.0, 2))
    assert [behind.overdue(now) for now in (14.0, 16.0)] == [False, True]
    assert after(("heard", 0.0, 1)).overdue(0.0)
    assert not after(*JOINED).overdue(1000.0)  # silent, which a contact mends


def test_a_shorter_fence_that_comes_later_counts() -> None:
    behind = after(*JOINED).heard(5.0, 2, 600.0).heard(6.0, 3, FENCE_S)
    assert behind.fence(16.1, CONTACT_S) is not None


def test_how_far_it_is_behind_can_always_be_told_to_others() -> None:
    """JSON has no infinity: a row that held one could not be read, and stopped every change of the fleet."""
    joined = Standing().heard(0.0, 1, FENCE_S).converged(1)
    told = [
        joined.behind_s(5.0, FENCE_S, CONTACT_S),
        joined.heard(10.0, 2, FENCE_S).behind_s(13.0, FENCE_S, CONTACT_S),
        joined.lapsed().heard(40.0, 2, FENCE_S).behind_s(40.0, FENCE_S, CONTACT_S),
    ]
    assert told == [0.0, 3.0, CONTACT_S]
