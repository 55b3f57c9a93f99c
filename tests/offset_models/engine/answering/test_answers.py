"""Where the engine decides for all streams at once, answers are those of the core's step by step."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import chi2_contingency

from deltaserve.errors import BadRequest, BlindPosition, ContextLengthExceeded, OffsetUnavailable, UpstreamUnreachable
from deltaserve.offset_models.engine.engine import Engine
from deltaserve.offset_models.engine.pair import Adapter, FullModel, Pair, PairHandle
from deltaserve.offset_models.engine.settings import EngineSettings
from deltaserve.server.decoding.constraints.words import Words
from deltaserve.server.decoding.decoder import DraftSource, decode
from deltaserve.server.decoding.drafting.acceptance import Acceptance
from deltaserve.server.decoding.drafting.early_calls import EarlyCall, Record, Records
from deltaserve.server.decoding.drafting.naming import Namer
from deltaserve.server.decoding.drafting.upstream import UpstreamSource
from deltaserve.server.decoding.params import SamplingParams
from deltaserve.server.decoding.policy import Naming, Policy
from deltaserve.server.decoding.protocols import DraftParams, Proposal
from deltaserve.server.decoding.stream import Step, Stream
from tests.server.decoding.drafting.test_sources import scripted
from tests.support.amounts import amount
from tests.support.letters import END, compiled, regex
from tests.support.models import VOCAB, random_adapter, tiny_llama
from tests.support.statistics import ALARM
from tests.support.toy import ToyBlackBox, ToyDetokenizer, ToyNames

pytestmark = pytest.mark.anyio
PROMPT = [1, 2, 3, 5, 8]
GREEDY = SamplingParams(max_tokens=24, temperature=0.0)
SEEDED = SamplingParams(max_tokens=24, temperature=0.9, seed=7)


def pair() -> Pair:
    adapter = Adapter("a", lambda model: random_adapter(model, 0))
    return Pair(FullModel("o", lambda: tiny_llama(0)), adapter, VOCAB)


@asynccontextmanager
async def engine_of(*, decides: bool) -> AsyncIterator[tuple[Engine, PairHandle]]:
    engine = Engine(EngineSettings(max_streams=8, max_len=96, threads=1, batch_decisions=decides))
    engine.start()
    try:
        yield engine, await engine.add_pair(pair())
    finally:
        engine.close()


def black_box(**changes: object) -> ToyBlackBox:
    return ToyBlackBox(**{"size": VOCAB, "k": 8, "burst": 3, **changes})


async def answer(
    served: tuple[Engine, PairHandle],
    params: SamplingParams,
    source: DraftSource | None = None,
    *,
    policy: Policy | None = None,
    strength: float = 4.0,
    prompt: list[int] = PROMPT,
) -> list[Step]:
    engine, handle = served
    session = await engine.open([(handle, strength)], timeout_s=5)
    try:
        session.prefetch(prompt)
        grammar = None if params.constraint is None else compiled(params.constraint, VOCAB)
        stream = Stream(list(prompt), params, session, ToyDetokenizer(), policy=policy or Policy(), grammar=grammar)
        return [step async for step in decode(stream, source or UpstreamSource(black_box()))]
    finally:
        session.close()


def ids(steps: list[Step]) -> list[int]:
    return [step.token_id for step in steps]


WORDS = Words(VOCAB, frozenset(range(VOCAB - 5)), ((3,), *((one, other) for one in range(9) for other in range(20))))
KINDS = {
    "greedy": GREEDY,
    "penalties": replace(GREEDY, presence_penalty=0.6, frequency_penalty=0.3, repetition_penalty=1.2),
    "bias and min_tokens": replace(GREEDY, logit_bias={3: 2.0}, min_tokens=9, eos_ids=frozenset({4, 9, 11})),
    "an end": replace(GREEDY, eos_ids=frozenset(range(0, VOCAB, 7))),
    "seeded": SEEDED,
    "seeded and filtered": replace(SEEDED, top_p=0.7, top_k=6, min_p=0.02),
    "log-probabilities": replace(GREEDY, top_logprobs=5),
    "a grammar": replace(GREEDY, constraint=regex("(abc[d-h]*i|[b-e]{3,9}k)"), eos_ids=frozenset({END})),
    "words, seeded": replace(SEEDED, words=WORDS),
    "a wide grammar, seeded": replace(SEEDED, constraint=regex("[^a-h]*", after=(3,)), top_p=0.9, ignore_eos=True),
}


@pytest.mark.parametrize("kind", KINDS)
async def test_answers_are_those_of_the_core(kind: str) -> None:
    found = []
    for decides in (False, True):
        async with engine_of(decides=decides) as served:
            together = await asyncio.gather(*(answer(served, KINDS[kind], prompt=[*PROMPT, n]) for n in range(4)))
            found.append(together)
    for by_core, by_engine in zip(*found, strict=True):
        assert ids(by_core) == ids(by_engine)
        assert [step.certified for step in by_core] == [step.certified for step in by_engine]
        assert [step.tail_mass for step in by_core] == pytest.approx([step.tail_mass for step in by_engine])
        for one, other in zip(by_core, by_engine, strict=True):
            if one.logprob is not None and one.top is not None and other.top is not None:
                assert other.logprob == pytest.approx(one.logprob, abs=1e-3)
                np.testing.assert_array_equal(one.top[0], other.top[0])
    assert any(step.replaced for steps in found[0] for step in steps)


@pytest.mark.parametrize("params", [GREEDY, SEEDED], ids=["greedy", "seeded"])
async def test_ids_are_asked_for_by_name_where_the_core_would(params: SamplingParams) -> None:
    policy, asked, found = Policy(naming=Naming(tail=0.05, certify=True, most=20)), [], []
    for decides in (False, True):
        async with engine_of(decides=decides) as served:
            names = ToyNames(VOCAB, most=20)
            source = UpstreamSource(black_box(k=2), namer=Namer(names))
            found.append(ids(await answer(served, params, source, policy=policy)))
            asked.append(names.calls)
    assert found[0] == found[1]
    assert all(asked)
    together = params.seed is None  # then one call may ask about several positions of a run
    assert together or asked[0] == asked[1]


HELD = {"constraint": regex("(abc)?[d-k]*(bca|cab){1,3}k"), "eos_ids": frozenset({END}), "ignore_eos": True}


@pytest.mark.parametrize(
    "params",
    [replace(GREEDY, **HELD), replace(SEEDED, **HELD), replace(SEEDED, words=WORDS)],
    ids=["greedy", "seeded", "words"],
)
async def test_who_drafts_does_not_change_a_constrained_text(params: SamplingParams) -> None:
    async with engine_of(decides=True) as served:
        plain = ids(await answer(served, params))
        assert ids(await answer(served, params, scripted(black_box(), 4, 0, 3, 1))) == plain
        early = UpstreamSource(black_box(), early_call=EarlyCall(black_box(), Records()))
        assert ids(await answer(served, params, early)) == plain


async def test_drafts_that_nothing_can_follow_end_no_answer() -> None:
    params = replace(SEEDED, **HELD | {"constraint": regex("([d-k]|ab|c)*")}, words=Words(VOCAB, banned=((1,),)))
    async with engine_of(decides=True) as served:
        for n in range(8):  # an `a` of the answer itself is its end; one of a draft is not
            source = scripted(black_box(), 8)
            prompt = [*PROMPT, n]
            plain = await outcome(answer(served, params, prompt=prompt))
            assert await outcome(answer(served, params, source, prompt=prompt)) == plain


async def outcome(answered: Awaitable[list[Step]]) -> list[int] | type[Exception]:
    try:
        return ids(await answered)
    except BadRequest as error:
        return type(error)


@pytest.mark.parametrize("params", [GREEDY, SEEDED], ids=["greedy", "seeded"])
@pytest.mark.parametrize("script", [(4,), (0, 3, 1), (16,)])
async def test_who_drafts_does_not_change_the_text(params: SamplingParams, script: tuple[int, ...]) -> None:
    async with engine_of(decides=True) as served:
        plain = ids(await answer(served, params))
        assert ids(await answer(served, params, scripted(black_box(), *script))) == plain


async def test_early_calls_do_not_change_the_text() -> None:
    async with engine_of(decides=True) as served:
        plain, box = ids(await answer(served, GREEDY)), black_box()
        sure = Records(greedy=Record(Acceptance(1.0)))
        assert ids(await answer(served, GREEDY, UpstreamSource(box, early_call=EarlyCall(box, sure)))) == plain
        assert box.closed == len(box.calls)


@pytest.mark.parametrize("script", [(0,), (2,)], ids=["its own stream", "blocks of the pair"])
async def test_sampled_tokens_are_distributed_as_the_core_s(script: tuple[int, ...]) -> None:
    counts = []
    for decides in (False, True):
        async with engine_of(decides=decides) as served:
            box, drawn = black_box(), np.zeros(VOCAB)
            params = SamplingParams(max_tokens=2, temperature=1.0)
            for _ in range(amount(20, 40)):
                for steps in await asyncio.gather(*(answer(served, params, scripted(box, *script)) for _ in range(8))):
                    drawn[steps[1].token_id] += 1
            counts.append(drawn)
    often = sum(counts) >= 10
    table = [np.append(drawn[often], drawn[~often].sum()) for drawn in counts]
    assert chi2_contingency(table).pvalue > ALARM


async def test_a_position_without_a_list_is_an_error_unless_it_is_allowed() -> None:
    async with engine_of(decides=True) as served:
        hiding = black_box(swallow=lambda position: "blind" if position == len(PROMPT) + 4 else None)
        with pytest.raises(BlindPosition):
            await answer(served, GREEDY, UpstreamSource(hiding))
        steps = await answer(served, GREEDY, UpstreamSource(hiding), policy=Policy(allow_blind=True))
        assert [n for n, step in enumerate(steps) if step.blind] == [4]


async def test_an_answer_goes_on_after_a_fault_of_the_black_box() -> None:
    async with engine_of(decides=True) as served:
        plain = ids(await answer(served, GREEDY))
        box = black_box(faults=[None, UpstreamUnreachable("gone")])
        assert ids(await answer(served, GREEDY, UpstreamSource(box))) == plain


async def test_an_answer_that_is_given_up_gives_its_rows_back() -> None:
    async with engine_of(decides=True) as served:
        engine, handle = served
        for _ in range(3):
            session = await engine.open([(handle, 1.0)], timeout_s=5)
            stream = Stream(list(PROMPT), GREEDY, session, ToyDetokenizer())
            steps = decode(stream, UpstreamSource(black_box()))
            await anext(steps)
            await steps.aclose()
            session.close()
        assert ids(await answer(served, GREEDY))
        await engine.remove_pair(handle)  # behind all that was sent to the engine before
        assert engine.stats().rows_waiting == 0


async def test_the_context_s_end_is_an_error() -> None:
    async with engine_of(decides=True) as served:
        with pytest.raises(ContextLengthExceeded):
            await answer(served, replace(GREEDY, max_tokens=200))


async def test_who_waits_for_an_engine_that_ends_is_told() -> None:
    async with engine_of(decides=True) as served:
        engine, handle = served
        session = await engine.open([(handle, 1.0)], timeout_s=5)
        corrector = Stream(list(PROMPT), GREEDY, session, ToyDetokenizer()).corrector
        await asyncio.to_thread(engine.close)
        with pytest.raises(OffsetUnavailable):
            await asyncio.wait_for(corrector.expected(), 5)


@pytest.mark.parametrize("decides", [True, False], ids=["engine", "core"])
async def test_what_is_lifted_most_is_told_of_the_next_position_only(decides: bool) -> None:
    async with engine_of(decides=decides) as served:
        engine, handle = served
        session = await engine.open([(handle, 4.0)], timeout_s=5)
        policy = Policy(naming=Naming(tail=0.1, most=4))
        stream = Stream(list(PROMPT), GREEDY, session, ToyDetokenizer(), policy=policy)
        guess, first = await asyncio.gather(stream.corrector.expected(), stream.corrector.lifted())
        assert first.size == 36 and (np.diff(first) > 0).all() and guess == await stream.corrector.expected()
        again = await asyncio.gather(stream.corrector.lifted(), stream.corrector.lifted())
        assert all(ids.size in (0, 36) for ids in again) and again[1].tolist() == first.tolist()
        await stream.corrector.decide([await anext_of(black_box(), PROMPT)], 0.0)
        second = await stream.corrector.lifted()
        assert second.size == 36 and second.tolist() != first.tolist()
        session.close()


async def anext_of(box: ToyBlackBox, prefix: list[int]) -> Proposal:
    async with box.draft(prefix, DraftParams(0.0, 1)) as draft:
        return await anext(aiter(draft))
