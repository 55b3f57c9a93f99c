"""What calls to a black box cost."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cost:
    """Sums of calls and tokens."""

    calls: int = 0
    prompt_tokens: int = 0  # sent; a prefix cache spares the work for most of those that are repeated
    generated_tokens: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            self.calls + other.calls,
            self.prompt_tokens + other.prompt_tokens,
            self.generated_tokens + other.generated_tokens,
        )
