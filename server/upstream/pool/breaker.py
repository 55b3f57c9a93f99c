"""A circuit breaker: an upstream that fails again and again is left alone for a while, then tried by a single call."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

FAILURES: Final = 5  # in a row
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 8.0


@dataclass(slots=True)
class Breaker:
    """Closed: calls go out. Open: none does, for a while. Half open: one does, and its end decides."""

    failures: int = FAILURES
    clock: Callable[[], float] = time.monotonic
    opened: int = field(default=0, init=False)  # times that it opened
    _in_a_row: int = field(default=0, init=False)
    _pause_s: float = field(default=_FIRST_PAUSE_S, init=False)
    _until: float | None = field(default=None, init=False)  # end of the pause; None: closed
    _trying: bool = field(default=False, init=False)  # the single call is on its way

    @property
    def closed(self) -> bool:
        return self._until is None

    @property
    def resting(self) -> bool:
        """Whether no call may go out now. When the pause is over one may: until then nobody knows how it is."""
        return self._until is not None and self.clock() < self._until

    @property
    def wait_s(self) -> float:
        """Seconds until a call may go out, 0: now; as long as the first pause while the single call is on its way."""
        if self._until is None:
            return 0.0
        return _FIRST_PAUSE_S if self._trying else max(self._until - self.clock(), 0.0)

    def begin(self) -> bool:
        """A call goes out. Whether it is the single one that decides, which its end must be told with."""
        if self._until is None:
            return False
        self._trying = True
        return True

    def succeeded(self) -> None:
        """The upstream answered."""
        self._in_a_row, self._pause_s, self._until, self._trying = 0, _FIRST_PAUSE_S, None, False

    def failed(self, *, trial: bool) -> None:
        """It did not. Calls that began before the pause say nothing new."""
        if trial:
            self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
            self._open()
        elif self._until is None:
            self._in_a_row += 1
            if self._in_a_row >= self.failures:
                self._open()

    def abandoned(self, *, trial: bool) -> None:
        """Whoever called left before anything was known."""
        if trial:
            self._trying = False

    def _open(self) -> None:
        self.opened += 1
        self._trying = False
        self._until = self.clock() + self._pause_s
