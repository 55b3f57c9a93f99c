"""Circles of dead objects are found while they are few."""

import gc
from collections import deque
from collections.abc import Iterator

import pytest

from deltaserve.server.garbage import keep_what_is_there


class Circle:
    """What an exception leaves behind: its traceback holds the frame that holds it."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def held() -> Iterator[list[list[int]]]:
    """As much as torch brings, and afterwards nothing of it."""
    yield [[number] for number in range(600_000)]
    gc.unfreeze()


def test_what_dies_old_is_found_without_waiting_for_as_much_as_was_imported(held: list[list[int]]) -> None:
    keep_what_is_there()
    searches = gc.get_stats()[2]["collections"]
    living: deque[Circle] = deque(maxlen=20_000)  # long enough to be moved among the old
    for _ in range(150_000):
        living.append(Circle())
    assert gc.get_stats()[2]["collections"] > searches
    assert len(held) == 600_000
