"""Estimates how long work still takes from its recent rate; calls for a line about it at intervals."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Final, Self

KNOWN_AFTER_S: Final = 3.0  # of work that is not the first piece, which warms up or goes on from an earlier run
KNOWN_AFTER: Final = 3  # pieces
RECENT: Final = (
    0.5  # the part of the time so far that the rate is taken of: a change of pace shows, a pause does not jump
)
LINE_EVERY_S: Final = 8.0
FEWER_AFTER_S: Final = 600.0
THEN_EVERY_S: Final = 60.0


class Pace:
    """Pieces of work as they are done."""

    def __init__(self, total: int, now: Callable[[], float] = time.monotonic) -> None:
        self.total = total
        self.done = 0
        self._now = now
        self._began = now()
        self._marks: deque[tuple[float, int]] = deque(maxlen=4096)  # (seconds, pieces done by then)

    def advance(self, pieces: int = 1) -> None:
        self.done += pieces
        self._marks.append((self._now(), self.done))

    @property
    def elapsed_s(self) -> float:
        return self._now() - self._began

    @property
    def left_s(self) -> float | None:
        """None until it is known."""
        now = self._now()
        if len(self._marks) <= KNOWN_AFTER or now - self._marks[0][0] < KNOWN_AFTER_S:
            return None
        since = now - (now - self._marks[0][0]) * RECENT
        at, done = next((mark for mark in self._marks if mark[0] >= since), self._marks[0])
        if self.done == done:  # nothing lately: by all of it
            at, done = self._marks[0]
        return (self.total - self.done) * (now - at) / (self.done - done)

    def __str__(self) -> str:
        left = self.left_s
        return f"{self.done} of {self.total}" + ("" if left is None else f", {shown(left)} left")


def shown(seconds: float) -> str:
    """Rounded as far as an estimate means anything."""
    if seconds < 90:
        return f"about {max(5, 5 * round(seconds / 5))} s"
    return f"about {round(seconds / 60)} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"


class Ticker:
    """Calls `lines` now and then from a thread of its own, however long one piece takes, and says what it gives."""

    def __init__(self, lines: Callable[[], Iterable[str]], say: Callable[[str], None]) -> None:
        self._lines = lines
        self._say = say
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        began = time.monotonic()
        while not self._ended.wait(LINE_EVERY_S if time.monotonic() - began < FEWER_AFTER_S else THEN_EVERY_S):
            for line in self._lines():
                self._say(line)
