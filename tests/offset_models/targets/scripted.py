"""Black boxes of a few lines: one that a real asker asks, and one in the asker's place."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from deltaserve.offset_models.targets.asking.budget import CallsSpent
from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from deltaserve.offset_models.training.rows.row import Row
from deltaserve.server.decoding.protocols import DraftParams, Proposal

BASE = Path(__file__).parents[3] / "offset_models" / "demo" / "weights" / "base"
SAMPLED = 1.0


@cache
def tokenizer() -> Tokenizer:
    return Tokenizer.load(BASE)


def question(text: str) -> Row:
    return Row(None, (("user", text),))


@dataclass
class ScriptedBox:
    """Says what `says` tells of the prompt's text and the seed (None where it is asked greedily), and nothing else."""

    says: Callable[[str, int | None], str]
    calls: list[tuple[str, DraftParams]] = field(default_factory=list)
    hides: frozenset[int] = frozenset()  # positions whose token is not shown, only its list
    faults: list[Exception] = field(default_factory=list)  # to be raised first
    swallowed_positions: int = 0
    blind_positions: int = 0
    capabilities: Any = field(default_factory=lambda: SimpleNamespace(end_ids=(), model="box", slots=None))

    @asynccontextmanager
    async def draft(self, token_ids: Sequence[int], params: DraftParams) -> AsyncIterator[Any]:
        text = tokenizer().decode(token_ids)
        self.calls.append((text, params))
        if self.faults:
            raise self.faults.pop(0)
        begun = next((known for known, _ in self.calls if text.startswith(known)), text)  # a call that goes on
        answer = self.says(begun, params.seed if params.temperature else None)
        ids = [*tokenizer().encode(answer), *tokenizer().answer_end]
        yield self._proposals(ids[len(token_ids) - len(tokenizer().encode(begun)) :], params)

    async def _proposals(self, ids: Sequence[int], params: DraftParams) -> AsyncIterator[Proposal]:
        for at, token in enumerate(ids[: params.max_tokens]):
            hidden = at in self.hides
            yield Proposal(None if hidden else token, np.array([token]), np.array([0.0]))
            if hidden:
                return

    async def ping(self) -> None: ...

    async def aclose(self) -> None: ...


@dataclass
class ScriptedAsks:
    """An `Asks` whose answers are `says(prompt, sample)`: the last user's words, or the running text."""

    says: Callable[[str, int], str]
    calls_left: int = 10_000
    asked: list[str] = field(default_factory=list)
    lists: Callable[[str], tuple[str, ...]] = lambda _prompt: ()

    async def ask(
        self, rows: Sequence[Row], *, max_tokens: int, temperature: float = 0.0, samples: int = 1
    ) -> list[tuple[str, ...]]:
        prompts = [row.messages[-1][1] if row.messages else row.prompt for row in rows]
        first = 1 if temperature else 0  # sample 0 is the greedy one
        return [tuple(self._said(prompt, first + at) for at in range(samples)) for prompt in prompts]

    async def ask_raw(
        self, prompts: Sequence[str], *, max_tokens: int, temperature: float = SAMPLED, stops: Sequence[str] = ()
    ) -> list[str]:
        return [self._said(prompt, at + 1) for at, prompt in enumerate(prompts)]

    async def listed(self, rows: Sequence[Row]) -> list[tuple[str, ...]]:
        self.calls_left -= len(rows)
        return [self.lists(row.messages[-1][1] if row.messages else row.prompt) for row in rows]

    def user_turn(self) -> str:
        return "<|im_start|>user\n"

    def within(self, calls: int) -> "ScriptedAsks":
        return self

    def _said(self, prompt: str, sample: int) -> str:
        if not self.calls_left:
            raise CallsSpent("none left")
        self.calls_left -= 1
        self.asked.append(prompt)
        return self.says(prompt, sample).strip()
