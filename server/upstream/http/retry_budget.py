"""How many calls may be repeated: a share of all, so that an upstream in trouble is not asked much more often."""

from dataclasses import dataclass


@dataclass(slots=True)
class RetryBudget:
    """Each call pays in a share of a retry, and each retry takes a whole one."""

    share: float = 0.2
    most: float = 64.0  # saved up at most; this much is there at the start
    _left: float = -1.0

    def __post_init__(self) -> None:
        self._left = self.most

    def called(self) -> None:
        """A call is made, for the first time."""
        self._left = min(self._left + self.share, self.most)

    def spend(self) -> bool:
        """Whether there is a retry left; it is taken."""
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True
