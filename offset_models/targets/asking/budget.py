"""How many calls may be made, and what was spent on what."""

from dataclasses import dataclass, field

from deltaserve.errors import DeltaserveError


class CallsSpent(DeltaserveError):
    """The budget of calls is used up. What was answered is kept in the journal."""


@dataclass(frozen=True, slots=True)
class Spent:
    """What a stage has cost: calls and tokens of this run, and the calls that a stopped run had made for it."""

    calls: int = 0
    prompt_tokens: int = 0
    answer_tokens: int = 0
    earlier_calls: int = 0

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(
            self.calls + other.calls,
            self.prompt_tokens + other.prompt_tokens,
            self.answer_tokens + other.answer_tokens,
            self.earlier_calls + other.earlier_calls,
        )


@dataclass(slots=True)
class Budget:
    """A number of calls, which are also the parent's calls where there is one."""

    calls: int
    stage: str = ""
    parent: "Budget | None" = None
    spent: Spent = field(default_factory=Spent)

    @property
    def left(self) -> int:
        own = max(self.calls - self.spent.calls - self.spent.earlier_calls, 0)
        return own if self.parent is None else min(own, self.parent.left)

    def take(self) -> bool:
        """Spends one call; False, and nothing is spent, where none is left."""
        if not self.left:
            return False
        self.charge(Spent(calls=1))
        return True

    def charge(self, spent: Spent) -> None:
        """Adds what was spent, whether or not it was left: an answer may need a second call to be finished."""
        self.spent += spent
        if self.parent is not None:
            self.parent.charge(spent)

    def exhausted(self, missing: int) -> CallsSpent:
        """The error where so many answers are missing."""
        of = f" of the stage {self.stage!r}" if self.stage else ""
        return CallsSpent(
            f"The {self.calls} calls{of} to the black box do not suffice: {missing} more are needed now. "
            "What was answered is kept; give more calls (--calls) and start again, it goes on from there."
        )
