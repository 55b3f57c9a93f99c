"""Scored answers are the ids that are served behind their question."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from deltaserve.client.evaluation.metrics.echo import score
from deltaserve.client.evaluation.side import Blocked, Message, Said
from deltaserve.errors import BadRequest
from deltaserve.offset_models.tokenizer.continuation import answered
from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from tests.support.spellings import TURNS, loaded

pytestmark = pytest.mark.anyio
ASKED = [{"role": "user", "content": "Q?"}]


class Scoring:
    """Gives each token its place as a log-probability, and keeps what it was asked."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.prompt: list[int] = []

    async def ids(self, messages: Sequence[Message]) -> list[int]:
        begun = messages[-1]["role"] == "assistant"
        try:
            chat = self._tokenizer.render_chat(messages, add_generation_prompt=not begun, continue_final_message=begun)
        except BadRequest as error:
            raise Blocked(400, error.message) from error
        return self._tokenizer.encode(chat)

    async def text_ids(self, text: str) -> list[int]:
        return self._tokenizer.encode(text)

    async def complete(self, prompt: Sequence[int], **_: Any) -> Said:
        self.prompt = list(prompt)
        return Said({"choices": [{"logprobs": {"token_logprobs": [None, *range(1, len(prompt))]}}]})


@pytest.mark.parametrize("kind", ["prepend", "first", "bytes"])
@pytest.mark.parametrize("template", [TURNS, TURNS.replace("m['content']", "m['content'].split('Paris')[-1]")])
@pytest.mark.parametrize("answer", ["Paris", " Paris is", "\n\nParis"])
async def test_an_answer_is_scored_as_it_is_served(tmp_path: Path, kind: str, template: str, answer: str) -> None:
    tokenizer = loaded(tmp_path, kind, template)
    side, expected = Scoring(tokenizer), answered(tokenizer, ASKED, answer)
    found = await score(side, ASKED, answer)
    assert side.prompt == [*expected.prompt_ids, *expected.answer_ids]
    assert found == sum(range(len(expected.prompt_ids), len(side.prompt)))
