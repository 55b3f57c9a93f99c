"""A server's own routes and a tokenizer folder give the same ids of questions and answers."""

from dataclasses import replace
from pathlib import Path

import pytest

from deltaserve.client.client import AsyncClient
from deltaserve.client.evaluation.encoding import LocalEncoder, ServerEncoder
from deltaserve.client.results import TokenizerInfo
from tests.support.app import running_app
from tests.support.spellings import LLAMA_2, THINKING, TURNS, loaded

pytestmark = pytest.mark.anyio
ANSWERS = ("Paris", " Paris", "\n\nParis is", "é🙂")
REWRITTEN = TURNS.replace("m['content']", "m['content'].split('Paris')[-1]")
OPENED = "{% for m in messages %}{{ ('<unk>' if m['role'] == 'user' else '<s>') + m['content'] }}{% endfor %}"


class Discreet(AsyncClient):
    """Asks a server that does not tell what ends a turn, as vLLM."""

    async def tokenizer_info(self) -> TokenizerInfo:
        return replace(await super().tokenizer_info(), turn_end_token=None)


@pytest.mark.parametrize("kind", ["prepend", "first", "bytes", "spaced bytes"])
@pytest.mark.parametrize(
    "template", [TURNS, LLAMA_2, THINKING, REWRITTEN, TURNS.replace("eos_token", "'<unk>'"), OPENED]
)
async def test_questions_answers_and_ends_are_those_of_the_tokenizer(tmp_path: Path, kind: str, template: str) -> None:
    tokenizer = loaded(tmp_path, kind, template)
    local = LocalEncoder(tokenizer)
    with running_app(tokenizer) as app:
        async with AsyncClient(app.url) as client:
            remote = ServerEncoder(client, "tiny")
            assert await remote.answered("Q?", ANSWERS) == await local.answered("Q?", ANSWERS)
            assert await remote.continued("Q?", ANSWERS) == await local.continued("Q?", ANSWERS)
            assert await remote.continued("", ANSWERS[:1]) == await local.continued("", ANSWERS[:1])
            assert await remote.end() == await local.end()
        async with Discreet(app.url) as client:
            assert await ServerEncoder(client, "tiny").end() == await local.end()


async def test_a_chat_ends_with_what_the_template_puts_behind_the_answer(tmp_path: Path) -> None:
    tokenizer = loaded(tmp_path, "bytes", TURNS.replace("eos_token", "'<unk>'"))
    with running_app(tokenizer) as app:
        for kind in (AsyncClient, Discreet):
            async with kind(app.url) as client:
                assert await ServerEncoder(client, "tiny").end() == [0] != [*tokenizer.eos_ids[:1]]
