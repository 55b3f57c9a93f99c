"""The loop over a toy world: restarts, ends, faults, seeds, and what a stream costs."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from deltaserve.errors import BlindPosition, MalformedTopK, OffsetUnavailable, UpstreamUnreachable
from deltaserve.server.decoding.decoder import decode, generate
from deltaserve.server.decoding.drafting.upstream import CallLength, UpstreamSource
from deltaserve.server.decoding.params import SamplingParams
from deltaserve.server.decoding.policy import Policy
from tests.support.toy import ToyBlackBox, ToySession, toy_logprobs, toy_stream

pytestmark = pytest.mark.anyio
GREEDY = SamplingParams(max_tokens=20, temperature=0.0)


def drafts(black_box, length=None):
    return UpstreamSource(black_box, CallLength(length, fixed=True))


async def tokens(stream, black_box, length=None):
    return [step.token_id async for step in decode(stream, drafts(black_box, length))]


async def pieces(stream, black_box):
    return [piece async for piece in generate(stream, drafts(black_box))]


def oracle(size, count, prompt=(1, 2, 3), strength=1.0):
    """Greedy full-vocabulary δ-unlearning."""
    ids = list(prompt)
    for _ in range(count):
        m, o, u = (toy_logprobs(name, ids, size) for name in ("black box", "initial", "unlearned"))
        ids.append(int(np.argmax(m + strength * (u - o))))
    return ids[len(prompt) :]


async def test_with_the_whole_vocabulary_listed_the_text_is_that_of_the_oracle():
    black_box = ToyBlackBox(k=12)
    assert await tokens(toy_stream(GREEDY), black_box) == oracle(12, 20)
    assert len(black_box.calls) > 1
    assert black_box.closed == len(black_box.calls)


async def test_strength_zero_is_the_black_box_itself_in_one_call():
    black_box = ToyBlackBox()
    assert await tokens(toy_stream(GREEDY, session=ToySession(strength=0.0)), black_box) == oracle(12, 20, strength=0.0)
    assert len(black_box.calls) == 1


async def test_after_a_replaced_token_the_next_call_starts_from_the_corrected_prefix():
    black_box, stream = ToyBlackBox(), toy_stream(GREEDY)
    steps = [step async for step in decode(stream, drafts(black_box))]
    prefix, expected = [1, 2, 3], [[1, 2, 3]]
    for step in steps[:-1]:
        prefix = [*prefix, step.token_id]
        if step.replaced:
            expected.append(prefix)
    assert [call for call, _ in black_box.calls] == expected
    assert stream.stats.replaced + stream.stats.accepted == 20
    assert stream.stats.upstream_calls == len(expected)


@pytest.mark.parametrize(
    "params", [{"temperature": 1.0}, {"temperature": 0.7, "top_p": 0.9}, {"temperature": 1.3, "min_p": 0.05}]
)
async def test_seeded_text_is_the_same_for_any_draft_length_and_any_arrival(params):
    texts = set()
    for length, burst, draws_at in itertools.product((1, 4, None), (1, 3, 50), (None, 1.0, 0.0)):
        black_box = ToyBlackBox(burst=burst, draws_at=draws_at, rng=np.random.default_rng(burst))
        stream = toy_stream(SamplingParams(max_tokens=40, seed=123, **params))
        texts.add(tuple(await tokens(stream, black_box, length)))
    assert len(texts) == 1
    other = toy_stream(SamplingParams(max_tokens=40, seed=124, **params))
    assert tuple(await tokens(other, ToyBlackBox())) not in texts


async def test_rows_of_proposals_that_piled_up_are_asked_for_in_one_go():
    session = ToySession(strength=0.0)
    await tokens(toy_stream(GREEDY, session=session), ToyBlackBox(burst=10))
    assert max(map(len, session.prefetched)) == 3 + 20
    assert [len(p) for p in session.prefetched if len(p) == 13]


async def test_an_answer_resumes_from_the_last_emitted_id_after_a_fault():
    whole = await tokens(toy_stream(GREEDY), ToyBlackBox())
    faults = [UpstreamUnreachable("cut"), None, UpstreamUnreachable("cut")]
    black_box = ToyBlackBox(faults=faults, fault_after=1)
    stream = toy_stream(GREEDY)
    assert await tokens(stream, black_box) == whole
    assert stream.stats.upstream_faults == 2


async def test_a_black_box_that_keeps_failing_ends_the_answer_with_its_error():
    black_box = ToyBlackBox(faults=[UpstreamUnreachable("cut")] * 9)
    with pytest.raises(UpstreamUnreachable, match="cut"):
        await tokens(toy_stream(GREEDY), black_box)
    assert len(black_box.calls) == 3


async def test_a_black_box_that_ends_at_once_is_an_error_not_an_empty_answer():
    class Silent(ToyBlackBox):
        def _proposals(self, prefix, count, temperature, form):
            return []

    with pytest.raises(UpstreamUnreachable, match="without a token"):
        await tokens(toy_stream(GREEDY), Silent())


async def test_an_error_that_no_retry_helps_is_not_retried():
    black_box = ToyBlackBox(faults=[MalformedTopK("NaN")])
    with pytest.raises(MalformedTopK):
        await tokens(toy_stream(GREEDY), black_box)
    assert len(black_box.calls) == 1


async def test_without_a_row_nothing_is_emitted():
    stream = toy_stream(GREEDY, session=ToySession(fails=OffsetUnavailable("the engine is dead")))
    with pytest.raises(OffsetUnavailable):
        await tokens(stream, ToyBlackBox())
    assert stream.emitted == 0


async def test_tokens_decided_before_a_pair_that_fails_within_a_burst_are_still_given():
    class Ending(ToySession):
        async def row(self, token_ids):
            if len(token_ids) > 6:
                raise OffsetUnavailable("the engine is dead")
            return await super().row(token_ids)

    stream = toy_stream(GREEDY, session=Ending(strength=0.0))
    with pytest.raises(OffsetUnavailable):
        await tokens(stream, ToyBlackBox(burst=8))
    assert stream.ids[3:] == oracle(12, 4, strength=0.0)


async def test_end_of_sequence_stops_and_shows_no_text():
    plain = await tokens(toy_stream(GREEDY), ToyBlackBox())
    eos = plain[4]
    params = SamplingParams(max_tokens=20, temperature=0.0, eos_ids=frozenset({eos}))
    found = await pieces(toy_stream(params), ToyBlackBox(eos_id=eos))
    ended = plain.index(eos)
    assert "".join(p.text for p in found) == "".join(chr(97 + i) for i in plain[:ended])
    assert found[-1].finish_reason == "stop"
    assert sum(len(p.steps) for p in found) == ended + 1


async def test_an_end_of_the_black_box_ends_the_answer_where_it_is_emitted_and_nowhere_else():
    for strength, alike in ((0.0, 20), (1.0, 20)):
        plain = await tokens(toy_stream(GREEDY, session=ToySession(strength=strength)), ToyBlackBox())
        for end in range(12):
            black_box = ToyBlackBox(eos_id=end, tells_end=True)
            stream = toy_stream(GREEDY, session=ToySession(strength=strength))
            said = await tokens(stream, black_box)
            ends = end in stream.params.eos_ids  # seen: proposed, whether it was emitted there or replaced
            assert said == plain[: len(said)]
            assert (said[-1] == end) is (len(said) < alike) or len(said) == alike
            assert stream.finish_reason == ("stop" if ends and said[-1] == end else "length")


async def test_an_end_token_learned_from_the_black_box_is_not_emitted_before_min_tokens():
    plain = await tokens(toy_stream(GREEDY, session=ToySession(strength=0.0)), ToyBlackBox())
    end, params = plain[2], replace(GREEDY, min_tokens=8)
    stream = toy_stream(params, session=ToySession(strength=0.0))
    said = await tokens(stream, ToyBlackBox(eos_id=end, tells_end=True))
    assert said[:2] == plain[:2] and end not in said[:8]
    assert len(said) >= 8


async def test_a_local_block_ends_at_an_end_token_learned_from_the_black_box():
    plain = await tokens(toy_stream(GREEDY), ToyBlackBox())
    stream = toy_stream(GREEDY)
    first = next(iter(ToyBlackBox()._proposals(list(stream.ids), 1, 0.0)))
    told = replace(first, end_id=plain[3])
    (decision,) = await stream.corrector.decide([told], 0.0)
    stream.advance(stream.step(told, decision))
    drafted = await stream.corrector.draft(16)
    assert stream.params.final_ids == {plain[3]}
    assert plain[3] not in drafted[:-1]


async def test_ignoring_the_end_goes_on_with_a_new_call():
    plain = await tokens(toy_stream(GREEDY), ToyBlackBox())
    params = SamplingParams(max_tokens=20, temperature=0.0, eos_ids=frozenset({plain[4]}), ignore_eos=True)
    assert await tokens(toy_stream(params), ToyBlackBox(eos_id=plain[4])) == plain


async def test_the_token_limit_ends_with_length_and_asks_for_no_more():
    black_box, stream = ToyBlackBox(), toy_stream(GREEDY)
    found = await pieces(stream, black_box)
    assert found[-1].finish_reason == "length"
    assert all(len(call) - 3 + params.max_tokens <= 20 for call, params in black_box.calls)


async def test_stop_strings_cut_the_text_across_tokens_and_close_the_call():
    plain = "".join(chr(97 + i) for i in await tokens(toy_stream(GREEDY), ToyBlackBox()))
    stop = plain[5:8]
    black_box = ToyBlackBox()
    params = SamplingParams(max_tokens=20, temperature=0.0, stop=(stop, "zzz"))
    found = await pieces(toy_stream(params), black_box)
    assert "".join(p.text for p in found) == plain[: plain.index(stop)]
    assert (found[-1].finish_reason, found[-1].stop_reason) == ("stop", stop)
    assert black_box.closed == len(black_box.calls)


@pytest.mark.parametrize("more", [-1, 0], ids=["one token before its end", "with its end"])
async def test_a_stop_string_that_begins_within_min_tokens_ends_the_answer_if_it_is_complete_after_them(more):
    plain = "".join(chr(97 + i) for i in await tokens(toy_stream(GREEDY), ToyBlackBox()))
    stop, end = plain[5:8], plain.index(plain[5:8]) + 3
    params = SamplingParams(max_tokens=20, temperature=0.0, stop=(stop,), min_tokens=end + more)
    found = await pieces(toy_stream(params), ToyBlackBox())
    text, reason = "".join(p.text for p in found), found[-1].finish_reason
    assert (text, reason) == ((plain[: end - 3], "stop") if more < 0 else (plain, "length"))


async def test_every_step_is_reported_once_and_in_order():
    params = SamplingParams(max_tokens=20, temperature=0.0, stop=("abcdefgh",), top_logprobs=3)
    plain = await tokens(toy_stream(GREEDY), ToyBlackBox())
    found = await pieces(toy_stream(params), ToyBlackBox())
    steps = [step for piece in found for step in piece.steps]
    assert [step.token_id for step in steps] == plain
    for step in steps:
        ids, values = step.top
        assert step.token_id == ids[0]
        assert step.logprob == pytest.approx(values[0])
        assert (np.diff(values) <= 0).all()


async def test_leaving_the_generator_closes_the_upstream_call():
    black_box = ToyBlackBox()
    stream = toy_stream(GREEDY, session=ToySession(strength=0.0))
    generator = generate(stream, drafts(black_box))
    await anext(generator)
    await generator.aclose()
    assert (len(black_box.calls), black_box.closed) == (1, 1)


async def test_swallowed_positions_are_counted_and_the_answer_goes_on():
    for kind, blind in (("hole", 0), ("blind", 1)):
        black_box = ToyBlackBox(swallow=lambda position, kind=kind: kind if position == 6 else None)
        stream = toy_stream(GREEDY, policy=Policy(allow_blind=True))
        found = await tokens(stream, black_box)
        assert len(found) == 20
        assert (stream.stats.swallowed, stream.stats.blind) == (1, blind)
        if kind == "hole":
            assert found == await tokens(toy_stream(GREEDY), ToyBlackBox())


async def test_a_position_without_a_list_is_an_error_after_some_tries():
    black_box = ToyBlackBox(swallow=lambda position: "blind" if position == 6 else None)
    stream = toy_stream(GREEDY)
    with pytest.raises(BlindPosition, match="allow_blind"):
        await tokens(stream, black_box)
    assert stream.emitted == 3
    assert [len(prefix) for prefix, _ in black_box.calls].count(6) >= 3


@pytest.mark.parametrize("tail", ["impute", "truncate"])
async def test_where_blind_positions_are_allowed_the_pair_s_best_token_is_taken_whatever_the_tail(tail):
    black_box = ToyBlackBox(swallow=lambda position: "blind" if position == 3 else None)
    first, *_ = await tokens(toy_stream(GREEDY, policy=Policy(allow_blind=True, tail=tail)), black_box)
    assert first == toy_logprobs("unlearned", [1, 2, 3], 12).argmax()


async def test_a_list_that_comes_at_the_second_try_lets_the_answer_go_on():
    said = iter(("blind", "blind"))
    black_box = ToyBlackBox(swallow=lambda position: next(said, None) if position == 6 else None)
    assert await tokens(toy_stream(GREEDY), black_box) == await tokens(toy_stream(GREEDY), ToyBlackBox())


async def test_calls_become_short_after_replaced_tokens_and_long_again_after_accepted_ones():
    length = CallLength()
    assert length.limit(500) == 500
    length.learn(1, replaced=True)
    assert length.limit(500) == 8
    length.learn(8, replaced=False)
    assert length.limit(500) == 32
    length.learn(32, replaced=False)
    assert length.limit(100) == 100
