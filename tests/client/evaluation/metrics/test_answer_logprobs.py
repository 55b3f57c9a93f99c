"""Scored answers are the ids that are served behind their question."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from deltaserve.client.address import Address
from deltaserve.client.calls import Ending, Message
from deltaserve.client.errors import Refused
from deltaserve.client.evaluation.metrics.likelihood import answer_logprobs
from deltaserve.client.evaluation.target import Target
from deltaserve.client.results import ScoredPrompt, Tokens
from deltaserve.errors import BadRequest
from deltaserve.offset_models.tokenizer.continuation import answered
from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from tests.support.spellings import TURNS, loaded

pytestmark = pytest.mark.anyio
QUESTION = [{"role": "user", "content": "Q?"}]


class Scoring(Target):
    """Gives each token its place as a log-probability, and keeps the prompt."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__("scoring", Address("http://127.0.0.1:9"))
        self._tokenizer = tokenizer
        self.prompt: list[int] = []

    async def tokenize(
        self,
        prompt: str | Sequence[Message],
        model: str | None = None,
        add_special_tokens: bool | None = None,
        ending: Ending = "opened",
    ) -> Tokens:
        if isinstance(prompt, str):
            return Tokens(tuple(self._tokenizer.encode(prompt)), 64)
        begun = ending == "begun"
        try:
            chat = self._tokenizer.render_chat(prompt, add_generation_prompt=not begun, continue_final_message=begun)
        except BadRequest as error:
            raise Refused(error.message, 400) from error
        return Tokens(tuple(self._tokenizer.encode(chat)), 64)

    async def detokenize(self, ids: Sequence[int], model: str | None = None) -> str:
        return self._tokenizer.decode(ids)

    async def score(
        self, prompts: Sequence[Sequence[int]], logprobs: int, model: str | None = None
    ) -> list[ScoredPrompt]:
        (self.prompt,) = map(list, prompts)
        return [ScoredPrompt((None, *map(float, range(1, len(self.prompt)))), (None,) * len(self.prompt))]


@pytest.mark.parametrize("kind", ["prepend", "first", "bytes"])
@pytest.mark.parametrize("template", [TURNS, TURNS.replace("m['content']", "m['content'].split('Paris')[-1]")])
@pytest.mark.parametrize("answer", ["Paris", " Paris is", "\n\nParis"])
async def test_an_answer_is_scored_as_it_is_served(tmp_path: Path, kind: str, template: str, answer: str) -> None:
    tokenizer = loaded(tmp_path, kind, template)
    async with Scoring(tokenizer) as target:
        expected = answered(tokenizer, QUESTION, answer)
        (logprob,) = await answer_logprobs(target, "Q?", [answer])
    assert target.prompt == [*expected.prompt_ids, *expected.answer_ids]
    assert logprob == sum(range(len(expected.prompt_ids), len(target.prompt)))
