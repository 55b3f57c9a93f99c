"""Ways to score a text by name, and what they ask of the black box, to be told before it is asked."""

from dataclasses import dataclass
from typing import Final, Literal, get_args

MethodName = Literal["prompt_logprobs", "generate", "echo", "prompt_list", "steps"]
NAMES: Final[tuple[MethodName, ...]] = get_args(MethodName)


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
