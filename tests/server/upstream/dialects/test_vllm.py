"""The vLLM dialect on recorded answers."""

from typing import Any

import numpy as np
import orjson
import pytest

from deltaserve.errors import MalformedTopK, UpstreamError, UpstreamUnreachable
from deltaserve.server.decoding.protocols import DraftParams, Proposal
from deltaserve.server.upstream.base import Capabilities
from deltaserve.server.upstream.dialects.vllm import Vllm
from deltaserve.server.upstream.http.transport import Transport
from tests.support.replay import DONE, Replay, Reply, event, events_of, recorded, replaying, streamed
from tests.support.table_tokenizer import TableTokenizer

pytestmark = pytest.mark.anyio

TOKENIZER = TableTokenizer(2048, {5: b"!"})
GREEDY = DraftParams(temperature=0.0, max_tokens=2)


def vllm(replay: Replay, k: int = 20, raw: bool = True, **options: Any) -> Vllm:
    capabilities = Capabilities(
        dialect="vllm", server="vllm", model="tiny", k=k, max_k=20, vocab_size=2048, max_context=1024, ids_in=True,
        ids_out=True, raw_logprobs=raw, prompt_list=True, prompt_logprobs=True, prefix_cache=None,
    )  # fmt: skip
    return Vllm(Transport(replay.url), TOKENIZER, capabilities, **options)


async def drafted(box: Vllm, params: DraftParams = GREEDY, prefix: tuple[int, ...] = (979, 944)) -> list[Proposal]:
    try:
        async with box.draft(prefix, params) as draft:
            return [proposal async for proposal in draft]
    finally:
        await box.aclose()


def chunk(token: int, top: dict[int, Any], finish: str | None = None) -> dict[str, Any]:
    table = {f"token_id:{i}": value for i, value in top.items()}
    own = [top.get(token, -1.0)]
    logprobs = {"tokens": [f"token_id:{token}"], "token_logprobs": own, "top_logprobs": [table]}
    return {"choices": [{"index": 0, "text": "", "logprobs": logprobs, "finish_reason": finish}]}


END = event({"choices": [{"index": 0, "text": "", "logprobs": None, "finish_reason": "length"}]})


async def test_a_recorded_stream_gives_its_tokens_and_their_top_20() -> None:
    async with replaying(Reply(events_of(recorded("vllm/cmpl_ids_tokids_stream.sse")))) as replay:
        first, second = await drafted(vllm(replay))
    assert (first.token_id, second.token_id) == (634, 240)
    assert first.top_ids[:4].tolist() == [634, 1826, 1239, 1213]
    assert second.top_logprobs[[0, -1]].tolist() == [-2.691549301147461, -4.660299301147461]
    assert len(first.top_ids) == len(second.top_ids) == 20


async def test_every_sampling_field_is_sent_because_the_server_has_its_own_defaults() -> None:
    async with replaying(Reply(events_of(recorded("vllm/cmpl_ids_tokids_stream.sse")))) as replay:
        await drafted(vllm(replay, cache_salt="tenant"), DraftParams(temperature=0.7, max_tokens=2, seed=3))
    assert replay.bodies() == [
        {
            "model": "tiny", "prompt": [979, 944], "max_tokens": 2, "temperature": 0.7, "top_p": 1.0, "top_k": -1,
            "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0, "n": 1,
            "min_tokens": 0, "ignore_eos": False, "stop": [], "stop_token_ids": [], "logprobs": 20,
            "return_tokens_as_token_ids": True, "stream": True, "stream_options": {"include_usage": True},
            "seed": 3, "cache_salt": "tenant",
        }
    ]  # fmt: skip


async def test_no_seed_and_no_cache_salt_are_sent_unless_given() -> None:
    async with replaying(Reply(events_of(recorded("vllm/cmpl_ids_tokids_stream.sse")))) as replay:
        await drafted(vllm(replay))
    assert not {"seed", "cache_salt"} & set(replay.bodies()[0])


async def test_a_drawn_token_that_comes_first_goes_back_to_its_rank() -> None:
    async with replaying(Reply(streamed(recorded("vllm/raw_T1.0.json")))) as replay:
        (proposal,) = await drafted(vllm(replay, k=4), DraftParams(1.0, 1))
    assert proposal.token_id == 1239
    assert proposal.top_ids.tolist() == [634, 1826, 1239, 1213]
    assert (np.diff(proposal.top_logprobs) <= 0).all()


async def test_a_drawn_token_outside_the_top_k_is_not_part_of_the_list() -> None:
    async with replaying(Reply(streamed(recorded("vllm/cmpl_logit_bias.json")))) as replay:
        (proposal,) = await drafted(vllm(replay, k=3), DraftParams(1.0, 1))
    assert proposal.token_id == 300
    assert proposal.top_ids.tolist() == [634, 1826, 1239]


async def test_masked_entries_of_minus_9999_weigh_nothing_and_are_dropped() -> None:
    async with replaying(Reply(streamed(recorded("vllm/processed_temperature_top_k.json")))) as replay:
        (proposal,) = await drafted(vllm(replay, k=4), DraftParams(1.0, 1))
    assert proposal.top_ids.tolist() == [634, 1826, 1239] or proposal.top_ids.tolist() == [634, 1239, 1826]
    assert proposal.top_logprobs.min() > -9999


async def test_text_keys_that_lost_entries_are_refused() -> None:
    async with replaying(Reply(events_of(recorded("vllm/cmpl_lp20_stream.sse")))) as replay:
        with pytest.raises(MalformedTopK, match="return_tokens_as_token_ids"):
            await drafted(vllm(replay))


async def test_several_tokens_in_one_chunk_are_several_proposals() -> None:
    both = chunk(5, {5: -0.5, 6: -1.0})
    more = chunk(6, {6: -0.25, 7: -2.0})["choices"][0]["logprobs"]
    for name in ("tokens", "token_logprobs", "top_logprobs"):
        both["choices"][0]["logprobs"][name] += more[name]
    async with replaying(Reply([event(both), END, DONE])) as replay:
        proposals = await drafted(vllm(replay, k=2))
    assert [(p.token_id, p.top_ids.tolist()) for p in proposals] == [(5, [5, 6]), (6, [6, 7])]


async def test_processed_logprobs_are_always_asked_for_at_temperature_one() -> None:
    async with replaying(Reply(events_of(recorded("vllm/cmpl_ids_tokids_stream.sse")))) as replay:
        box = vllm(replay, raw=False)
        async with box.draft([979, 944], DraftParams(0.0, 2)) as draft:
            assert draft.temperature == 1.0
        await box.aclose()
    assert replay.bodies()[0]["temperature"] == 1.0


@pytest.mark.parametrize(("asked", "drawn"), [(0.0, 0.0), (0.001, 0.01), (0.5, 0.5), (3.0, 3.0)])
async def test_a_draft_says_the_temperature_it_is_really_drawn_at(asked: float, drawn: float) -> None:
    async with replaying(Reply(events_of(recorded("vllm/cmpl_ids_tokids_stream.sse")))) as replay:
        box = vllm(replay)
        async with box.draft([979, 944], DraftParams(asked, 2)) as draft:
            assert draft.temperature == drawn
        await box.aclose()
    assert replay.bodies()[0]["temperature"] == drawn


@pytest.mark.parametrize(
    ("top", "complaint"),
    [
        ({5: -1.0, 6: None}, "no number|shape"),
        ({5: -1.0, 6: "x"}, "no number|shape"),
        ({6: -3.0, 7: -1.0}, "not sorted"),
        ({5: 0.5, 6: -1.0}, "above zero"),
        ({5: -0.1, 6: -0.2}, "more than one"),
        ({5: -1.0, 2048: -2.0}, "does not have"),
        ({5: -1.0}, "listed 1 tokens where 2"),
        ({}, "empty"),
        ({5: -9999.0, 6: -9999.0}, "no token of positive"),
    ],
)
async def test_a_malformed_list_is_refused_with_its_reason(top: dict[int, Any], complaint: str) -> None:
    async with replaying(Reply([event(chunk(5, top)), END, DONE])) as replay:
        with pytest.raises(MalformedTopK, match=complaint):
            await drafted(vllm(replay, k=2))


@pytest.mark.parametrize(
    "payload",
    [
        orjson.dumps(chunk(5, {5: -1.0, 6: -2.0})).replace(b"-2.0", b"NaN"),
        orjson.dumps(chunk(5, {5: -1.0, 6: -2.0}))[:-9],
        b'{"choices": [{"logprobs": {"tokens": ["token_id:5"]}}]}',
        b'{"choices": [{"logprobs": {"tokens": ["token_id:5"], "top_logprobs": []}}]}',
        b'{"choices": 7}',
        b"7",
    ],
    ids=["nan", "truncated", "without lists", "fewer lists than tokens", "no choices", "no object"],
)
async def test_a_chunk_of_the_wrong_shape_is_refused(payload: bytes) -> None:
    async with replaying(Reply([event(payload), END, DONE])) as replay:
        with pytest.raises(MalformedTopK):
            await drafted(vllm(replay, k=2))


async def test_proposals_before_a_malformed_one_are_still_given() -> None:
    good, bad = event(chunk(5, {5: -1.0, 6: -2.0})), event(chunk(5, {5: -1.0}))
    async with replaying(Reply([good + bad])) as replay:
        box, seen = vllm(replay, k=2), []
        with pytest.raises(MalformedTopK):
            async with box.draft([1], GREEDY) as draft:
                seen += [proposal.token_id async for proposal in draft]
        left = draft.arrived()
        await box.aclose()
    assert left == [] and len(replay.requests) == 1


async def test_an_error_event_in_the_middle_is_an_error_although_done_follows() -> None:
    error = event({"error": {"message": "secret prompt", "type": "InternalServerError", "param": None, "code": 500}})
    async with replaying(Reply([event(chunk(5, {5: -1.0, 6: -2.0})), error, DONE])) as replay:
        with pytest.raises(UpstreamUnreachable) as caught:
            await drafted(vllm(replay, k=2))
    assert "InternalServerError" in caught.value.message
    assert "secret" not in caught.value.message


@pytest.mark.parametrize("pieces", [[], [DONE]], ids=["cut", "done without a finish reason"])
async def test_an_answer_without_a_finish_reason_is_cut(pieces: list[bytes]) -> None:
    async with replaying(Reply([event(chunk(5, {5: -1.0, 6: -2.0})), *pieces])) as replay:
        with pytest.raises(UpstreamUnreachable, match="cut off"):
            await drafted(vllm(replay, k=2))


async def test_an_end_token_that_was_drawn_but_not_shown_has_its_list_asked_for() -> None:
    hidden = [
        event(chunk(5, {5: -1.0, 6: -2.0})),
        event({"choices": [{"index": 0, "logprobs": None, "finish_reason": "stop"}]}),
        event({"choices": [], "usage": {"completion_tokens": 2}}),
        DONE,
    ]
    forced = [event(chunk(5, {5: -8.0, 7: -0.5, 8: -1.5}, "length")), DONE]
    async with replaying(Reply(hidden), Reply(forced)) as replay:
        box = vllm(replay, k=2)
        shown, unknown = await drafted(box, DraftParams(1.0, 4))
    assert shown.token_id == 5
    assert unknown.token_id is None and unknown.top_ids.tolist() == [7, 8]
    assert replay.bodies()[1]["prompt"] == [979, 944, 5]
    assert replay.bodies()[1]["logit_bias"] == {"5": 100.0}
    assert (box.swallowed_positions, box.blind_positions) == (1, 0)


async def test_a_server_that_hid_one_draw_is_trusted_with_none_from_then_on() -> None:
    hidden = [event({"choices": [{"index": 0, "logprobs": None, "finish_reason": "stop"}]}), DONE]
    forced = [event(chunk(5, {5: -8.0, 7: -0.5, 8: -1.5}, "length")), DONE]
    async with replaying(Reply(forced), Reply(hidden), Reply(forced)) as replay:
        box, said = vllm(replay, k=2), []
        for _ in range(3):
            async with box.draft([1], DraftParams(0.8, 1)) as draft:
                said.append([(draft.temperature, proposal.token_id) async for proposal in draft])
        await box.aclose()
    assert said == [[(0.8, 5)], [(None, None)], [(None, 5)]]
    assert not box.trusts_draws


async def test_where_a_bias_changes_the_lists_a_hidden_position_is_asked_for_again_until_a_token_is_shown() -> None:
    hidden = Reply([event({"choices": [{"index": 0, "logprobs": None, "finish_reason": "stop"}]}), DONE])
    shown = Reply([event(chunk(5, {5: -8.0, 7: -0.5, 8: -1.5}, "length")), DONE])
    async with replaying(hidden, hidden, shown) as replay:
        box = vllm(replay, k=2, raw=False)
        (unknown,) = await drafted(box, DraftParams(0.0, 4))
    assert unknown.token_id is None and unknown.top_ids.tolist() == [7, 8]
    assert [(body["temperature"], "logit_bias" in body) for body in replay.bodies()] == [(1.0, False)] * 3
    assert box.blind_positions == 0


async def test_what_has_arrived_is_taken_without_waiting_and_not_iterated_again() -> None:
    pieces: list[bytes | float] = [event(chunk(i, {i: -1.0, i + 1: -2.0})) for i in (5, 6, 7)]
    async with replaying(Reply([*pieces, float("inf")])) as replay:
        box = vllm(replay, k=2)
        async with box.draft([1], DraftParams(1.0, 9)) as draft:
            assert (await anext(aiter(draft))).token_id == 5
            taken: list[int | None] = []
            while len(taken) < 2:
                await _a_moment()
                taken += [proposal.token_id for proposal in draft.arrived()]
            assert taken == [6, 7]
            assert draft.arrived() == []
        await box.aclose()


async def test_no_more_proposals_than_asked_for_are_taken() -> None:
    pieces = [event(chunk(i, {i: -1.0, i + 1: -2.0})) for i in (5, 6, 7)]
    async with replaying(Reply([*pieces, END, DONE])) as replay:
        assert len(await drafted(vllm(replay, k=2), DraftParams(1.0, 2))) == 2


async def test_errors_of_a_draft_are_of_the_upstream_branch() -> None:
    async with replaying(Reply([recorded("vllm/oov_id.json")], 400, "application/json")) as replay:
        with pytest.raises(UpstreamError, match="token id 99999 is out of its vocabulary"):
            await drafted(vllm(replay))


async def _a_moment() -> None:
    import asyncio

    await asyncio.sleep(0.001)
