"""Loads that run or failed, as operators see them beside the versions."""

from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from deltaserve.errors import DeltaserveError

MAX_ATTEMPTS: Final = 64  # failed loads that are remembered
MAX_SHOWN: Final = 200  # characters of an unknown name that an error or the log repeats


@dataclass(frozen=True, slots=True)
class Attempt:
    """A load that runs or failed; it answers no request."""

    name: str
    state: Literal["loading", "failed"]
    digest: str | None = None
    reason: str | None = None


class Attempts:
    """The latest one of each name, the oldest first."""

    def __init__(self) -> None:
        self._of_each: dict[str, Attempt] = {}

    def begun(self, name: str, digest: str | None) -> None:
        self._remember(Attempt(name, "loading", digest))

    def failed(self, name: str, digest: str | None, reason: str) -> None:
        self._remember(Attempt(name, "failed", digest, reason))

    def over(self, name: str) -> None:
        """It succeeded, or nobody wants to see it any more."""
        self._of_each.pop(name, None)

    def failures(self) -> dict[str, str]:
        """Name → reason."""
        return {one.name: one.reason or "" for one in self._of_each.values() if one.state == "failed"}

    def describe(self) -> list[dict[str, Any]]:
        """As plain JSON types."""
        return [asdict(one) for one in self._of_each.values()]

    def _remember(self, attempt: Attempt) -> None:
        self._of_each.pop(attempt.name, None)
        self._of_each[attempt.name] = attempt
        while len(self._of_each) > MAX_ATTEMPTS:
            del self._of_each[next(iter(self._of_each))]


def reason_of(error: Exception) -> str:
    """What an operator may read of it."""
    return error.message if isinstance(error, DeltaserveError) else f"A defect: {type(error).__name__}."
