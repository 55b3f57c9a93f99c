"""A black box of a few lines behind an asker that remembers: the same call again has the same answer, at no cost."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from deltaserve.offset_models.targets.asking.budget import Budget, CallsSpent
from deltaserve.offset_models.training.rows.row import Row

USER = "<|im_start|>user\n"


@dataclass
class RememberingAsks:
    """An `Asks` whose answers are `says(prompt, sample)`: the last user's words, or the text that is gone on with."""

    says: Callable[[str, int], str]
    budget: Budget = field(default_factory=lambda: Budget(10_000))
    said: dict[tuple[str, int], str] = field(default_factory=dict)

    @property
    def calls_left(self) -> int:
        return self.budget.left

    @property
    def calls(self) -> int:
        return len(self.said)

    @property
    def asked(self) -> list[str]:
        return [prompt for prompt, _ in self.said]

    async def ask(
        self, rows: Sequence[Row], *, max_tokens: int, temperature: float = 0.0, samples: int = 1
    ) -> list[tuple[str, ...]]:
        prompts = [row.messages[-1][1] if row.messages else row.prompt for row in rows]
        return [tuple(self._answer(prompt, at).strip() for at in range(samples)) for prompt in prompts]

    async def ask_raw(
        self, prompts: Sequence[str], *, max_tokens: int, temperature: float = 1.0, stops: Sequence[str] = ()
    ) -> list[str]:
        seen = Counter[str]()
        texts = list[str]()
        for prompt in prompts:
            texts.append(self._answer(prompt, seen[prompt]))
            seen[prompt] += 1
        return texts

    async def listed(self, rows: Sequence[Row]) -> list[tuple[str, ...]]:
        return [() for _ in rows]

    def user_turn(self) -> str:
        return USER

    def within(self, calls: int) -> "RememberingAsks":
        return RememberingAsks(self.says, Budget(calls, parent=self.budget), self.said)

    def _answer(self, prompt: str, sample: int) -> str:
        if (prompt, sample) not in self.said:
            if not self.budget.take():
                raise CallsSpent("none left")
            self.said[prompt, sample] = self.says(prompt, sample)
        return self.said[prompt, sample]
