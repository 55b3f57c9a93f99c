"""A locally drafted block is scored in one call, and nothing is made of a partial answer."""

import pytest

from deltaserve.errors import MalformedTopK, UpstreamError
from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from deltaserve.server.decoding.protocols import DraftParams
from deltaserve.server.upstream.listing.prompt_list import PromptList
from deltaserve.server.upstream.probing.connect import connect
from tests.support.blackbox import blackbox, make_model

pytestmark = pytest.mark.anyio
GREEDY = DraftParams(0.0, 1)


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    make_model(folder)
    with blackbox(folder) as server:
        yield server, Tokenizer.load(folder)


async def test_the_lists_of_a_block_are_those_of_the_same_positions_asked_one_by_one(running):
    server, tokenizer = running
    box = await connect(server.url, tokenizer=tokenizer, k=5)
    try:
        prefix, drafted = tokenizer.encode("the cat sat"), tokenizer.encode(" on the mat")
        before = server.stats()["requests"]
        block = await PromptList(box).block(prefix, drafted, GREEDY)
        assert server.stats()["requests"] == before + 1
        assert len(block.proposals) == len(drafted) + 1
        for i, seen in enumerate(block.proposals):
            async with box.draft([*prefix, *drafted[:i]], GREEDY) as draft:
                alone = await anext(aiter(draft))
            assert seen.token_id == alone.token_id
            assert seen.top_ids.tolist() == alone.top_ids.tolist()
            assert seen.top_logprobs == pytest.approx(alone.top_logprobs, abs=1e-4)
    finally:
        await box.aclose()


@pytest.mark.parametrize("fault", ["nan", "repeated", "disconnect:1", "truncate:1", "error:1", "status:500"])
async def test_a_broken_answer_to_a_block_is_an_error(running, fault):
    server, tokenizer = running
    box = await connect(server.url, tokenizer=tokenizer, k=5)
    try:
        server.client.post("/faults", json={"fault": fault, "times": 9}).raise_for_status()
        with pytest.raises(UpstreamError):
            await PromptList(box).block(tokenizer.encode("the cat"), tokenizer.encode(" sat"), GREEDY)
    finally:
        server.client.delete("/faults").raise_for_status()
        await box.aclose()


async def test_malformed_lists_are_not_retried(running):
    server, tokenizer = running
    box = await connect(server.url, tokenizer=tokenizer, k=5)
    try:
        server.client.post("/faults", json={"fault": "nan", "times": 9}).raise_for_status()
        before = server.stats()["requests"]
        with pytest.raises(MalformedTopK):
            await PromptList(box).block(tokenizer.encode("the cat"), tokenizer.encode(" sat"), GREEDY)
        assert server.stats()["requests"] == before + 1
    finally:
        server.client.delete("/faults").raise_for_status()
        await box.aclose()
