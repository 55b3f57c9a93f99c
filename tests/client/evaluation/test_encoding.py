"""The end token of an answer to a chat is the one that ends turns, and only else the end of text."""

from pathlib import Path

import pytest

from deltaserve.client.evaluation.encoding import LocalEncoder
from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from tests.support.vocabularies import byte_level

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(("template", "expected"), [(None, "<|im_end|>"), ("no chats", "<|endoftext|>")])
async def test_an_answer_of_a_chat_ends_as_its_turns_do(tmp_path: Path, template: str | None, expected: str) -> None:
    config = {"eos_token": "<|endoftext|>"} | ({"chat_template": template} if template else {})
    tokenizer = Tokenizer.load(byte_level(tmp_path, config=config))
    assert await LocalEncoder(tokenizer).end() == [tokenizer.backend.token_to_id(expected)]
