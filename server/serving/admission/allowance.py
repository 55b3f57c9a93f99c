"""So much a minute: all of it at once or evenly, and what is taken comes back evenly."""

import math
import time
from collections.abc import Callable

from deltaserve.server.serving.admission.clients import Left


class Allowance:
    """A bucket that holds `per_minute` and fills at that rate. `now` gives seconds."""

    def __init__(self, per_minute: int, now: Callable[[], float] = time.monotonic) -> None:
        self.per_minute = per_minute
        self._now = now
        self._level = float(per_minute)
        self._at = now()

    def take(self, amount: int = 1) -> float | None:
        """Takes `amount`. Returns None, or takes nothing and returns the seconds until so much is there.

        More than the whole allowance is taken where nothing else was: it is owed then.
        """
        level = self._filled()
        missing = min(amount, self.per_minute) - level
        if missing > 1e-9:  # of rounding
            return missing * 60 / self.per_minute
        self._level = level - amount
        return None

    def charge(self, amount: int) -> None:
        """Takes what has been used already, even where it is not there: then it is owed."""
        self._level = self._filled() - amount

    def change(self, per_minute: int) -> None:
        """Another rate from now on; what has been used stays used."""
        used = self.per_minute - self._filled()
        self.per_minute = per_minute
        self._level = per_minute - used

    def left(self) -> Left:
        """What could be taken now."""
        level = self._filled()
        reset_s = (self.per_minute - level) * 60 / self.per_minute
        return Left(self.per_minute, max(math.floor(level + 1e-9), 0), reset_s)

    def _filled(self) -> float:
        now = self._now()
        self._level = min(self._level + (now - self._at) * self.per_minute / 60, float(self.per_minute))
        self._at = now
        return self._level
