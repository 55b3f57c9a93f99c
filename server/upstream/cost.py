"""What calls to a black box cost."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cost:
    """Sums of calls and tokens."""

    calls: int = 0
    prompt_tokens: int = 0  # sent; a prefix cache spares the work for most of those that are repeated
    generated_tokens: int = 0
    cached_tokens: int = 0  # of the prompt tokens, those that the server says it had in its cache

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            self.calls + other.calls,
            self.prompt_tokens + other.prompt_tokens,
            self.generated_tokens + other.generated_tokens,
            self.cached_tokens + other.cached_tokens,
        )
