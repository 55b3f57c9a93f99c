"""One real server asked by ids, by texts and by chats: the same lists, as far as texts name their tokens."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from deltaserve.server.decoding.protocols import DraftParams, Proposal
from deltaserve.server.upstream.base import Dialect
from deltaserve.server.upstream.dialects.completions import CompletionsBox
from deltaserve.server.upstream.probing.connect import connect
from tests.support.blackbox import BlackBoxProcess, blackbox, make_model

pytestmark = pytest.mark.anyio

K = 10


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("texts") / "model")


@pytest.fixture(scope="module")
def server(model: Path) -> Iterator[BlackBoxProcess]:
    with blackbox(model) as process:
        yield process


@pytest.mark.parametrize("dialect", ["chat", "openai"])
async def test_what_texts_name_is_what_ids_name(server: BlackBoxProcess, model: Path, dialect: Dialect) -> None:
    tokenizer = Tokenizer.load(model)
    by_ids = await connect(server.url, tokenizer=tokenizer, dialect="vllm", k=2 * K)
    by_text = await connect(server.url, tokenizer=tokenizer, dialect=dialect, k=K)
    chat = tokenizer.render_chat([{"role": "user", "content": "Who wrote the book?"}])
    named = 0
    for begun in ("", "The river", "She was born in a", "import os, sys;"):
        prefix = tokenizer.encode(chat) + tokenizer.encode(begun)
        whole, told = await listed(by_ids, prefix), await listed(by_text, prefix)
        known = dict(zip(whole.top_ids.tolist(), whole.top_logprobs.tolist(), strict=True))
        np.testing.assert_allclose(told.top_logprobs, [known[i] for i in told.top_ids.tolist()], atol=1e-4)
        cap = told.log_cap if told.log_cap is not None else float(told.top_logprobs[-1])
        assert all(value <= cap + 1e-4 for i, value in known.items() if i not in told.top_ids)
        named += told.top_ids.size
    assert named > 2 * K
    await by_ids.aclose()
    await by_text.aclose()


async def listed(box: CompletionsBox, prefix: list[int]) -> Proposal:
    async with box.draft(prefix, DraftParams(0.0, 1)) as draft:
        return await anext(aiter(draft))
