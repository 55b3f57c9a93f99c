"""How many tokens to ask the black box for in one call."""

from dataclasses import dataclass

_SHORTEST = 8
_GROWTH = 4


@dataclass(slots=True)
class DraftLength:
    """Unbounded while tokens are accepted, short where they are not: what arrives after a replaced token is wasted."""

    bound: int | None = None  # None: as many as the answer may still have
    fixed: bool = False

    def limit(self, remaining: int) -> int:
        return remaining if self.bound is None else min(remaining, self.bound)

    def ended(self, accepted: int, *, replaced: bool) -> None:
        """Learn from one call: `accepted` tokens of it were kept."""
        if self.fixed:
            return
        if replaced:
            self.bound = max(_SHORTEST, _GROWTH * accepted)
        elif self.bound is not None:
            self.bound *= _GROWTH
