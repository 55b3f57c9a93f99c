"""The llama.cpp dialect on recorded answers, above all the tokens that it swallows."""

import math
from typing import Any

import orjson
import pytest

from deltaserve.errors import MalformedTopK, UpstreamRefused
from deltaserve.server.decoding.protocols import DraftParams, Proposal
from deltaserve.server.upstream.base import Capabilities
from deltaserve.server.upstream.dialects.llamacpp import LlamaCpp, held_back
from deltaserve.server.upstream.http.transport import Transport
from deltaserve.server.upstream.listing.prompt_list import PromptList
from tests.support.replay import DONE, Replay, Reply, event, events_of, recorded, replaying, streamed
from tests.support.table_tokenizer import TableTokenizer

pytestmark = pytest.mark.anyio

# The few ids of Qwen's vocabulary that the recordings draw outside their lists, and those of the melting face.
TOKENIZER = TableTokenizer(
    151665, {0: b"!", 9284: b"\xf0\x9f", 104: b"\xab", 254: b"\xa0", 7436: b" ___", 151645: b"<|im_end|>"}
)
MELTING = [9284, 104, 254]


def llamacpp(replay: Replay, k: int) -> LlamaCpp:
    capabilities = Capabilities(
        dialect="llamacpp", server="llama.cpp", model="qwen", k=k, max_k=151936, vocab_size=151936, max_context=2048,
        ids_in=True, ids_out=True, raw_logprobs=True, prompt_list=True, prompt_logprobs=False, prefix_cache=True,
    )  # fmt: skip
    return LlamaCpp(Transport(replay.url), TOKENIZER, capabilities)


async def drafted(box: LlamaCpp, max_tokens: int, prefix: list[int], temperature: float = 1.0) -> list[Proposal]:
    try:
        async with box.draft(prefix, DraftParams(temperature, max_tokens)) as draft:
            return [proposal async for proposal in draft]
    finally:
        await box.aclose()


def entry(drawn: int, shown: bytes, top: dict[int, bytes]) -> dict[str, Any]:
    listed = [{"id": i, "token": "", "bytes": list(raw), "logprob": -0.5 - n} for n, (i, raw) in enumerate(top.items())]
    logprob = next((one["logprob"] for one in listed if one["id"] == drawn), -9.0)
    return {"id": drawn, "token": "", "bytes": list(shown), "logprob": logprob, "top_logprobs": listed}


def chunk(*entries: dict[str, Any], finish: str | None = None, drawn: int | None = None) -> bytes:
    choice = {"index": 0, "text": "", "logprobs": {"content": entries} if entries else None, "finish_reason": finish}
    return event({"choices": [choice]} | ({"usage": {"completion_tokens": drawn}} if drawn else {}))


async def test_a_recorded_stream_gives_one_proposal_a_token() -> None:
    async with replaying(Reply(events_of(recorded("llamacpp/v1c_lp20_max32_t1_stream.resp.sse")))) as replay:
        box = llamacpp(replay, k=20)
        proposals = await drafted(box, 32, [785, 6722, 315, 9625, 374])
    assert len(proposals) == 32
    assert all(len(p.top_ids) == 20 and p.token_id is not None for p in proposals)
    assert (box.swallowed_positions, box.blind_positions) == (0, 0)


async def test_every_sampler_is_made_neutral() -> None:
    async with replaying(Reply(events_of(recorded("llamacpp/eos_v1c_stream.resp.sse")))) as replay:
        box = llamacpp(replay, k=3)
        async with box.draft([1, 2], DraftParams(0.7, 5, seed=2**40 + 3)):
            pass
        await box.aclose()
    (request,) = replay.requests
    assert request.body == {
        "model": "qwen", "prompt": [1, 2], "max_tokens": 5, "temperature": 0.7, "samplers": ["temperature"],
        "top_k": 0, "top_p": 1.0, "min_p": 0.0, "typical_p": 1.0, "top_n_sigma": -1.0, "xtc_probability": 0.0,
        "dynatemp_range": 0.0, "mirostat": 0, "dry_multiplier": 0.0, "repeat_penalty": 1.0, "presence_penalty": 0.0,
        "frequency_penalty": 0.0, "post_sampling_probs": False, "n": 1, "ignore_eos": False, "stop": [],
        "logprobs": 3, "cache_prompt": True, "stream": True, "stream_options": {"include_usage": True}, "seed": 3,
    }  # fmt: skip
    assert "x-conversation-id" not in request.headers


async def test_the_end_of_the_answer_is_a_proposal_like_any_other() -> None:
    async with replaying(Reply(events_of(recorded("llamacpp/eos_v1c_stream.resp.sse")))) as replay:
        box = llamacpp(replay, k=3)
        (proposal,) = await drafted(box, 5, [1])
    assert proposal.token_id == 151645
    assert proposal.top_ids.tolist() == [151645, 13, 0]
    assert box.swallowed_positions == 0


async def test_a_lone_continuation_byte_hides_no_token() -> None:
    async with replaying(Reply(streamed(recorded("llamacpp/utf8_natural_cut1.resp.json")))) as replay:
        box = llamacpp(replay, k=5)
        (proposal,) = await drafted(box, 1, [*MELTING * 4, 9284, 104])
    assert proposal.token_id == 254
    assert proposal.top_ids.tolist() == [254, 95, 94, 101, 109]
    assert box.swallowed_positions == 0


async def test_at_a_gap_the_first_missing_position_is_asked_for_again_with_a_forced_token() -> None:
    gap = Reply(streamed(recorded("llamacpp/utf8_multi.resp.json")))
    forced = Reply(streamed(_cut_to(recorded("llamacpp/utf8_natural_cut1_bias.resp.json"), 2)))
    prefix = [*MELTING * 5, 9284, 104]
    async with replaying(gap, forced) as replay:
        box = llamacpp(replay, k=2)
        shown, missing = await drafted(box, 6, prefix, temperature=0.0)
    assert shown.token_id == 254
    assert missing.token_id is None  # the second entry, of the token that completed the character, is not proposed
    assert missing.top_ids.tolist() == [254, 95]
    again = replay.bodies()[1]
    assert again["prompt"] == [*prefix, 254]
    assert (again["max_tokens"], again["logit_bias"]) == (1, [[0, 1000.0]])
    assert (box.swallowed_positions, box.blind_positions) == (1, 0)


async def test_the_first_stream_is_closed_before_the_position_is_asked_for_again() -> None:
    pieces = [chunk(entry(7, b"\xf0\x9fa", {7: b"a", 8: b"b"})), float("inf")]
    forced = Reply([chunk(entry(0, b"!", {8: b"b", 9: b"c"})), chunk(finish="length"), DONE])
    async with replaying(Reply(pieces), forced) as replay:
        (missing,) = await drafted(llamacpp(replay, k=2), 6, [1])
        assert replay.left.is_set()
    assert missing.top_ids.tolist() == [8, 9]


async def test_an_answer_that_swallowed_everything_is_a_gap_at_its_first_position() -> None:
    forced = Reply([chunk(entry(0, b"!", {8: b"b", 9: b"c"})), chunk(finish="length"), DONE])
    async with replaying(Reply(events_of(recorded("llamacpp/utf8_forced_stream.resp.sse"))), forced) as replay:
        box = llamacpp(replay, k=2)
        (missing,) = await drafted(box, 3, [87])
    assert missing.token_id is None and missing.top_ids.tolist() == [8, 9]
    assert replay.bodies()[1]["prompt"] == [87]
    assert box.swallowed_positions == 1


async def test_a_tail_that_was_swallowed_is_a_gap_after_what_was_shown() -> None:
    swallowed = Reply([chunk(entry(7, b"a", {7: b"a", 8: b"b"})), chunk(finish="length", drawn=3), DONE])
    forced = Reply([chunk(entry(0, b"!", {8: b"b", 9: b"c"})), chunk(finish="length"), DONE])
    async with replaying(swallowed, forced) as replay:
        shown, missing = await drafted(llamacpp(replay, k=2), 3, [1])
    assert (shown.token_id, missing.token_id) == (7, None)
    assert replay.bodies()[1]["prompt"] == [1, 7]


async def test_a_position_that_stays_hidden_is_given_as_unknown_and_counted() -> None:
    hidden = Reply(events_of(recorded("llamacpp/utf8_forced_stream.resp.sse")))
    async with replaying(hidden) as replay:
        box = llamacpp(replay, k=2)
        (unknown,) = await drafted(box, 3, [87])
    assert unknown.token_id is None and not len(unknown.top_ids) and not len(unknown.top_logprobs)
    assert (box.swallowed_positions, box.blind_positions) == (1, 1)
    assert len(replay.requests) == 2  # the forced call is not repeated for its own gap


@pytest.mark.parametrize("temperature", [0.0, 1.0])
async def test_no_draft_and_no_block_says_how_it_was_drawn_because_it_may_hide_what_was(temperature: float) -> None:
    shown = event({"choices": [{"index": 0, "logprobs": {"content": [entry(7, b"a", {7: b"a", 8: b"b"})]}}]})
    async with replaying(Reply([shown, chunk(finish="length"), DONE])) as replay:
        box = llamacpp(replay, k=2)
        async with box.draft([1], DraftParams(temperature, 1)) as draft:
            assert (await anext(aiter(draft))).token_id == 7
            assert draft.temperature is None
        assert (await PromptList(box).block([1], [], DraftParams(temperature, 1))).temperature is None
        await box.aclose()
    assert [body["temperature"] for body in replay.bodies()] == [temperature, temperature]


@pytest.mark.parametrize(("name", "k"), [("emoji_stream.resp.sse", 3), ("partial_utf8_stream.resp.sse", 4)])
async def test_fragments_in_the_lists_are_no_gaps(name: str, k: int) -> None:
    async with replaying(Reply(events_of(recorded(f"llamacpp/{name}")))) as replay:
        box = llamacpp(replay, k)
        proposals = await drafted(box, 12, [1])
    assert len(proposals) in (6, 12) and box.swallowed_positions == 0


async def test_a_draw_outside_the_list_is_compared_with_the_tokenizers_bytes() -> None:
    async with replaying(Reply(streamed(recorded("llamacpp/v1c_logit_bias_small.resp.json")))) as replay:
        (proposal,) = await drafted(llamacpp(replay, k=5), 1, [1])
    assert proposal.token_id == 7436
    assert 7436 not in proposal.top_ids


async def test_special_tokens_with_the_same_empty_text_stay_apart() -> None:
    both = entry(151645, b"", {151645: b"", 151643: b"", 13: b"."})
    async with replaying(Reply([chunk(both), chunk(finish="stop", drawn=1), DONE])) as replay:
        (proposal,) = await drafted(llamacpp(replay, k=3), 4, [1])
    assert proposal.top_ids.tolist() == [151645, 151643, 13]


async def test_padded_ids_are_dropped_and_a_drawn_one_names_no_token() -> None:
    padded = entry(151900, b"", {7: b"a", 151900: b"", 8: b"b"})
    async with replaying(Reply([chunk(padded), chunk(finish="length", drawn=1), DONE])) as replay:
        (proposal,) = await drafted(llamacpp(replay, k=3), 1, [1])
    assert proposal.token_id is None
    assert proposal.top_ids.tolist() == [7, 8]


async def test_a_probability_of_zero_as_the_most_negative_float_is_dropped() -> None:
    zero = entry(7, b"a", {7: b"a", 8: b"b", 9: b"c"})
    zero["logprob"] = zero["top_logprobs"][0]["logprob"] = math.log1p(-math.exp(-1.5))  # all but what the second has
    zero["top_logprobs"][2]["logprob"] = -3.4028234663852886e38
    async with replaying(Reply([chunk(zero), chunk(finish="length", drawn=1), DONE])) as replay:
        (proposal,) = await drafted(llamacpp(replay, k=3), 1, [1])
    assert proposal.top_ids.tolist() == [7, 8]


async def test_speculative_decoding_without_lists_is_refused_with_the_setting_to_change() -> None:
    hole = {"id": 7, "token": "a", "bytes": [97], "logprob": 0.0, "top_logprobs": []}
    async with replaying(Reply([chunk(hole), chunk(finish="length"), DONE])) as replay:
        with pytest.raises(UpstreamRefused, match="draft model"):
            await drafted(llamacpp(replay, k=2), 4, [1])


async def test_a_token_listed_twice_is_refused() -> None:
    twice = entry(7, b"a", {7: b"a", 8: b"b"})
    twice["top_logprobs"][1]["id"] = 7
    async with replaying(Reply([chunk(twice), chunk(finish="length"), DONE])) as replay:
        with pytest.raises(MalformedTopK, match="same token twice"):
            await drafted(llamacpp(replay, k=2), 4, [1])


async def test_text_that_is_not_the_tokens_own_is_refused() -> None:
    async with replaying(Reply([chunk(entry(7, b"xyz", {7: b"a", 8: b"b"})), DONE])) as replay:
        with pytest.raises(MalformedTopK, match="tokenizers differ"):
            await drafted(llamacpp(replay, k=2), 4, [1])


async def test_a_context_too_long_is_said_in_figures() -> None:
    body = recorded("llamacpp/err_too_long.resp.json")
    async with replaying(Reply([body], 400, "application/json")) as replay:
        with pytest.raises(UpstreamRefused, match="its context is 2048 tokens"):
            await drafted(llamacpp(replay, k=2), 4, [1])


@pytest.mark.parametrize(
    ("shown", "own", "earlier"),
    [
        (b"\xa0", b"\xa0", b""),
        ("\ufffd".encode(), b"\xa0", b""),
        (b"", b"<|im_start|>", b""),
        ("🫠".encode(), b"\xa0", b"\xf0\x9f\xab"),
        (b"\xf0\x9fA", b"A", b"\xf0\x9f"),
        (b"\xf2", b"", b"\xf2"),
    ],
)
def test_held_back_text_is_separated_from_the_token_s_own(shown: bytes, own: bytes, earlier: bytes) -> None:
    assert held_back(shown, own) == earlier


@pytest.mark.parametrize("listed", [True, False], ids=["listed", "outside the list"])
@pytest.mark.parametrize("shown", [b"\xf0\x9f!", b"\xf2Z!", b"\xe2\x80 a!"])
async def test_whole_text_after_a_broken_character_is_swallowed_with_it(shown: bytes, listed: bool) -> None:
    """Seen live: \\xf2, Z and the next token came as one entry, Z being held back although it is a whole character."""
    top = {0: b"!", 8: b"b"} if listed else {7: b"a", 8: b"b"}
    gap = Reply([chunk(entry(0, shown, top)), chunk(finish="length", drawn=3), DONE])
    forced = Reply([chunk(entry(0, b"!", {8: b"b", 9: b"c"})), chunk(finish="length"), DONE])
    async with replaying(gap, forced) as replay:
        (missing,) = await drafted(llamacpp(replay, k=2), 3, [1])
    assert missing.token_id is None and missing.top_ids.tolist() == [8, 9]


async def test_a_leading_space_that_only_the_server_sees_is_no_gap() -> None:
    spaced = Reply([chunk(entry(0, b" !", {7: b"a", 8: b"b"})), chunk(finish="length", drawn=1), DONE])
    async with replaying(spaced) as replay:
        (proposal,) = await drafted(llamacpp(replay, k=2), 1, [1])
    assert proposal.token_id == 0


def _cut_to(answer: bytes, k: int) -> bytes:
    whole = orjson.loads(answer)
    for item in whole["choices"][0]["logprobs"]["content"]:
        del item["top_logprobs"][k:]
    return orjson.dumps(whole)


async def test_the_answers_to_a_block_come_in_any_order_with_null_frames_between_them() -> None:
    frames = [event(None)]
    for index, drawn in ((1, 7), (0, 5)):
        listed = {"content": [entry(drawn, b"x", {drawn: b"x", 9: b"y"})]}
        frames.append(event({"choices": [{"index": index, "text": "x", "logprobs": listed, "finish_reason": None}]}))
        frames += [event(None), event({"choices": [{"index": index, "logprobs": None, "finish_reason": "length"}]})]
    async with replaying(Reply([*frames, DONE])) as replay:
        box = llamacpp(replay, k=2)
        block = await PromptList(box).block([1, 2], [5], DraftParams(0.0, 1))
        await box.aclose()
    assert [proposal.token_id for proposal in block.proposals] == [5, 7]
    (body,) = replay.bodies()
    assert body["prompt"] == [[1, 2], [1, 2, 5]]


@pytest.mark.parametrize("held", [b"\xf0\x9f", b"\xf2Z\xf0", "\ufffd".encode()], ids=["lead", "with text", "U+FFFD"])
@pytest.mark.parametrize("drawn", [151645, 151900], ids=["special", "no token at all"])
async def test_a_hidden_token_before_one_without_text_outside_the_list_is_swallowed(drawn: int, held: bytes) -> None:
    gap = Reply([chunk(entry(drawn, held, {7: b"a", 8: b"b"})), chunk(finish="stop", drawn=2), DONE])
    forced = Reply([chunk(entry(0, b"!", {8: b"b", 9: b"c"})), chunk(finish="length"), DONE])
    async with replaying(gap, forced) as replay:
        box = llamacpp(replay, k=2)
        (missing,) = await drafted(box, 3, [1])
    assert missing.token_id is None and missing.top_ids.tolist() == [8, 9]
    assert (box.swallowed_positions, box.blind_positions) == (1, 0)


async def test_a_special_token_outside_the_list_that_nothing_was_hidden_before_is_a_proposal() -> None:
    end = Reply([chunk(entry(151645, b"", {7: b"a", 8: b"b"})), chunk(finish="stop", drawn=1), DONE])
    async with replaying(end) as replay:
        (proposal,) = await drafted(llamacpp(replay, k=2), 3, [1])
    assert proposal.token_id == 151645 and proposal.top_ids.tolist() == [7, 8]


async def test_text_without_a_list_is_a_hidden_position_so_that_no_later_list_takes_its_place() -> None:
    text = event({"choices": [{"index": 0, "text": "x", "logprobs": None, "finish_reason": None}]})
    later = chunk(entry(7, b"a", {7: b"a", 8: b"b"}))
    forced = Reply([chunk(entry(0, b"!", {8: b"b", 9: b"c"})), chunk(finish="length"), DONE])
    async with replaying(Reply([text, later, chunk(finish="length", drawn=2), DONE]), forced) as replay:
        (missing,) = await drafted(llamacpp(replay, k=2), 2, [1])
    assert missing.token_id is None and missing.top_ids.tolist() == [8, 9]


@pytest.mark.parametrize("change", ["own", "best left out", "longer"])
async def test_a_list_that_contradicts_its_drawn_token_is_refused(change: str) -> None:
    odd = entry(7, b"a", {7: b"a", 8: b"b"})
    if change == "own":
        odd["logprob"] = -0.9
    elif change == "best left out":
        odd |= {"id": 0, "bytes": list(b"!"), "logprob": -0.6}
    else:
        odd["top_logprobs"].append({"id": 9, "token": "", "bytes": list(b"c"), "logprob": -9.0})
    async with replaying(Reply([chunk(odd), chunk(finish="length", drawn=1), DONE])) as replay:
        with pytest.raises(MalformedTopK, match=r"two log-prob|one of them|listed 3 tokens"):
            await drafted(llamacpp(replay, k=2), 1, [1])


async def test_more_tokens_shown_than_counted_are_refused() -> None:
    shown = [chunk(entry(7, b"a", {7: b"a", 8: b"b"}))] * 2
    async with replaying(Reply([*shown, chunk(finish="length", drawn=1), DONE])) as replay:
        with pytest.raises(MalformedTopK, match="fewer tokens"):
            await drafted(llamacpp(replay, k=2), 4, [1])
