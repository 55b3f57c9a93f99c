"""May this replica answer? A pure state machine over what it has seen, held and heard, on its own clock alone."""

import math
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Standing:
    """Every event makes a new one. Times are seconds of this replica's clock, which never goes back."""

    heard_at: float | None = None  # when the last complete contact with the store began
    seen: int = 0  # newest generation that was read
    holds: int | None = None  # newest generation whose active offset answers here; None: none yet
    must_hold_by: float | None = None  # while it holds less than it has seen

    def heard(self, began_at: float, generation: int, fence_s: float) -> "Standing":
        """A contact that read the record. Generations that follow a first one move its deadline to no later time."""
        now = replace(self, heard_at=began_at, seen=max(self.seen, generation))
        if now.behind == 0:
            return replace(now, must_hold_by=None)
        due = began_at + fence_s
        return replace(now, must_hold_by=due if self.must_hold_by is None else min(self.must_hold_by, due))

    def lapsed(self) -> "Standing":
        """It was silent for too long, so others may have been told that it answers nothing: it begins anew.

        Whatever it holds is not enough until it is the newest generation that the next contact reads.
        """
        return replace(self, holds=None, must_hold_by=-math.inf)

    def converged(self, generation: int) -> "Standing":
        """The active offset of `generation` answers from now on."""
        now = replace(self, holds=max(self.holds or 0, generation), seen=max(self.seen, generation))
        return now if now.behind else replace(now, must_hold_by=None)

    @property
    def behind(self) -> int:
        """Generations; all of them for a replica that holds none yet."""
        return self.seen - (self.holds or 0) if self.holds is not None else max(self.seen, 1)

    def silent_s(self, now: float) -> float | None:
        """Since the last contact began; None before the first."""
        return None if self.heard_at is None else now - self.heard_at

    def behind_s(self, now: float, fence_s: float, contact_s: float) -> float:
        """Since it first saw a generation that it does not hold; of one that was silent nobody knows: `contact_s`."""
        if self.must_hold_by is None:
            return 0.0
        return contact_s if self.must_hold_by == -math.inf else max(0.0, now - self.must_hold_by + fence_s)

    def overdue(self, now: float) -> bool:
        """Whether only holding the newest generation that it has seen lets it answer again."""
        return self.holds is None or (self.must_hold_by is not None and now > self.must_hold_by)

    def fence(self, now: float, contact_s: float) -> str | None:
        """Why no new answer may begin here; None: it may."""
        silent = self.silent_s(now)
        if silent is None:
            return "this replica has not reached its fleet's store yet"
        if silent > contact_s:
            return f"this replica has not reached its fleet's store for {silent:.0f} s, and may hold an old offset"
        if self.holds is None:
            return "this replica has not loaded its fleet's active offset yet"
        if self.overdue(now):
            return f"this replica holds generation {self.holds} of its fleet's offsets, and {self.seen} is due"
        return None
