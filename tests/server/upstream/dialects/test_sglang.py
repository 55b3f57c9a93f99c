"""SGLang's `/generate`: what is sent, events that add up or not, blocks, and what the probe finds."""

from collections.abc import Sequence
from typing import Any

import pytest

from deltaserve.errors import MalformedTopK, UpstreamUnreachable
from deltaserve.server.decoding.protocols import DraftParams, Proposal
from deltaserve.server.upstream.dialects.sglang import SGLang as Dialect
from deltaserve.server.upstream.listing.block_scorer import block_scorer
from deltaserve.server.upstream.listing.generate import Generate
from deltaserve.server.upstream.probing.connect import connect
from tests.server.upstream.conformance.rows import K, Row, drafted, opened, require_exact
from tests.support.replay import DONE, Reply, event, replaying
from tests.support.standins.oracle import PROMPT, TOKENIZER, readable
from tests.support.standins.sglang import SGLang

pytestmark = pytest.mark.anyio

ROW = Row("sglang", "sglang", SGLang)
LISTED = [[-0.5, 5], [-1.5, 6], [-2.5, 7], [-3.0, 8], [-3.5, 9]]


def message(*drawn: int, told: int, count: int | None = None, finish: Any = None) -> dict[str, Any]:
    """One event that shows these tokens; `told` positions so far, `count` tokens."""
    known = {i: value for value, i in LISTED}
    meta = {
        "finish_reason": finish, "prompt_tokens": 3, "completion_tokens": told if count is None else count,
        "output_token_logprobs_length": told, "output_token_logprobs": [[known[i], i, None] for i in drawn],
        "output_top_logprobs": [[[*entry, None] for entry in LISTED] for _ in drawn],
    }  # fmt: skip
    return {"text": "", "output_ids": list(drawn), "meta_info": meta}


async def read(*messages: dict[str, Any], tokens: int = 4) -> list[Proposal]:
    async with replaying(Reply([*map(event, messages), DONE])) as replay:
        box = ROW.box(replay.url)
        try:
            return await drafted(box, tokens=tokens)
        finally:
            await box.aclose()


def ids(proposals: Sequence[Proposal]) -> list[int | None]:
    return [proposal.token_id for proposal in proposals]


END = {"type": "length", "length": 3}


async def test_every_sampling_field_is_sent_because_servers_may_prefer_others() -> None:
    async with opened(ROW) as (box, replay), box.draft(PROMPT, DraftParams(0.7, 9, seed=3, min_tokens=2)) as draft:
        assert draft.temperature == 0.7
    assert replay.bodies("/generate") == [
        {
            "input_ids": list(PROMPT), "return_logprob": True, "top_logprobs_num": K, "logprob_start_len": -1,
            "stream": True, "sampling_params": {
                "max_new_tokens": 9, "temperature": 0.7, "top_p": 1.0, "top_k": -1, "min_p": 0.0,
                "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0, "n": 1,
                "min_new_tokens": 0, "ignore_eos": False, "stop": [], "stop_token_ids": [], "sampling_seed": 3,
            },
        }
    ]  # fmt: skip


async def test_cumulative_and_incremental_events_say_the_same() -> None:
    whole = [message(5, told=1), message(5, 6, told=2), message(5, 6, 5, told=3, finish=END)]
    parts = [message(5, told=1), message(6, told=2), message(5, told=3, finish=END)]
    assert ids(await read(*whole)) == ids(await read(*parts)) == [5, 6, 5]


async def test_several_tokens_of_an_event_are_several_positions_in_either_mode() -> None:
    whole = [message(5, 6, told=2), message(5, 6, 7, 8, told=4, finish=END)]
    parts = [message(5, 6, told=2), message(7, 8, told=4, finish=END)]
    assert ids(await read(*whole)) == ids(await read(*parts)) == [5, 6, 7, 8]


async def test_a_token_that_is_drawn_again_is_not_taken_for_what_was_said_before() -> None:
    parts = [message(5, told=1), message(5, told=2), message(5, told=3, finish=END)]
    assert ids(await read(*parts)) == [5, 5, 5]


@pytest.mark.parametrize(
    "messages",
    [
        [message(5, told=1), message(7, told=3)],
        [message(5, told=1), message(5, 7, told=2), message(5, 6, 7, told=3)],
        [message(5, told=1), message(6, told=2), message(6, told=2)],
        [message(5, told=1), message(5, 6, told=2), message(5, told=1)],
        [message(5, told=1, count=2)],
        [message(5, told=1), message(told=1, count=2, finish=END)],
    ],
    ids=["one is missing", "another past", "one twice", "it goes back", "unlisted", "unlisted end"],
)
async def test_events_that_do_not_add_up_are_refused(messages: list[dict[str, Any]]) -> None:
    with pytest.raises(MalformedTopK):
        await read(*messages, message(5, 6, 7, 8, told=4, finish=END))


async def test_an_aborted_answer_is_none() -> None:
    stopped = {"type": "abort", "message": "out of memory", "status_code": 503}
    with pytest.raises(UpstreamUnreachable):
        await read(message(5, told=1), message(5, told=1, finish={"type": "abort"}))
    with pytest.raises(Exception, match="too busy"):
        await read(message(5, told=1), message(5, told=1, finish=stopped))


async def test_the_probe_finds_generate_and_a_block_is_one_call_with_the_lists_along_it() -> None:
    block = readable(PROMPT, 3)
    async with replaying(SGLang(processed=True)) as replay:
        box = await connect(replay.url, tokenizer=TOKENIZER, k=K)
        facts = box.capabilities
        assert isinstance(box, Dialect) and facts.server == "SGLang 0.5.23"
        assert (facts.generate, facts.steps, facts.echo, facts.prompt_list) == (True, True, False, False)
        assert (facts.raw_logprobs, facts.greedy_raw) == (False, True)
        scorer = block_scorer(box, 256)
        assert isinstance(scorer, Generate)
        before = len(replay.requests)
        for temperature, drawn_at in ((0.0, 0.0), (0.5, 1.0)):
            found = await scorer.block(PROMPT, block, DraftParams(temperature, 1))
            assert found.temperature == drawn_at
            assert len(found.proposals) == len(block) + 1
            for at, proposal in enumerate(found.proposals):
                require_exact(proposal, [*PROMPT, *block[:at]])
        assert len(replay.requests) == before + 2
        await box.aclose()


async def test_greedy_drafts_are_greedy_although_lists_are_taken_after_the_temperature() -> None:
    async with opened(ROW, facts={"raw_logprobs": False, "greedy_raw": True}, processed=True) as (box, replay):
        for asked, drawn_at in ((0.0, 0.0), (0.5, 1.0), (1.5, 1.0)):
            async with box.draft(PROMPT, DraftParams(asked, 1)) as draft:
                assert draft.temperature == drawn_at
    assert [body["sampling_params"]["temperature"] for body in replay.bodies("/generate")] == [0.0, 1.0, 1.0]


async def test_calls_are_short_because_their_lists_grow_with_the_square() -> None:
    async with opened(ROW) as (box, replay), box.draft(PROMPT, DraftParams(0.0, 4000)):
        pass
    assert replay.bodies("/generate")[0]["sampling_params"]["max_new_tokens"] == 128


async def test_without_its_own_pages_it_is_asked_as_any_other_server() -> None:
    class Gateway(SGLang):
        def page(self, request: Any) -> Reply | None:
            return super().page(request) if request.path == "/v1/models" else None

    async with replaying(Gateway()) as replay:
        with pytest.raises(Exception, match="refused"):  # this one has no /v1/completions
            await connect(replay.url, tokenizer=TOKENIZER, k=K)
        assert replay.bodies("/generate") == []
