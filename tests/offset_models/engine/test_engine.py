"""The engine's rows against plain forwards of both models, and what they cost."""

import asyncio
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deltaserve.offset_models.engine.engine import Engine
from deltaserve.offset_models.engine.pair import Pair
from deltaserve.offset_models.engine.settings import EngineSettings
from tests.offset_models.engine.tiny_engine import (
    Models,
    assert_row,
    expected,
    full_models,
    full_pair,
    ids,
    lora_models,
    lora_pair,
    running,
    whole,
)
from tests.support.models import VOCAB, plain_logits

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(("pair", "models"), [(full_pair, full_models), (lora_pair, lora_models)])
async def test_rows_of_several_streams_equal_the_two_models(
    pair: Callable[[], Pair], models: Callable[[], Models]
) -> None:
    async with running(pair()) as (engine, (handle,)):

        async def stream(seed: int) -> None:
            session = await engine.open([(handle, 1.0)], timeout_s=5)
            prompt = ids(5 + 9 * seed, seed)
            session.prefetch(prompt)
            for token in ids(4, seed + 50):
                assert_row(await session.row(prompt), models(), prompt)
                prompt.append(token)
            session.close()

        await asyncio.gather(*(stream(seed) for seed in range(4)))


async def test_each_offset_of_a_sum_has_its_own_gate() -> None:
    async with running(full_pair(gate_nats=60.0), full_pair(1)) as (engine, (closed, open_)):
        prompt = ids(6)
        alone = await engine.open([(closed, 1.0)], timeout_s=5)
        assert not whole(await alone.row(prompt))[1].any()
        both = await engine.open([(closed, 1.0), (open_, 2.0)], timeout_s=5)
        np.testing.assert_allclose(
            whole(await both.row(prompt))[1], 2.0 * expected(full_models(1), prompt)[1], atol=4e-4
        )
        behind = await engine.open([(closed, 1.0)], timeout_s=5, gated=False)
        assert_row(await behind.row(prompt), full_models(), prompt)


async def test_offsets_of_several_pairs_add_up_and_a_shared_base_runs_once() -> None:
    async with running(lora_pair(1), lora_pair(2)) as (engine, (first, second)):
        session = await engine.open([(first, 0.5), (second, -2.0)], timeout_s=5)
        prompt = ids(6)
        base, offset = whole(await session.row(prompt))
        assert engine.stats().tokens == 3 * 6
        wanted_base, one = expected(lora_models(1), prompt)
        _, two = expected(lora_models(2), prompt)
        np.testing.assert_allclose(base, wanted_base, atol=2e-4)
        np.testing.assert_allclose(offset, 0.5 * one - 2.0 * two, atol=1e-3)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_mix_of_prefetches_rewinds_and_rows_equals_the_two_models(data: st.DataObject) -> None:
    async def drive() -> None:
        models = lora_models()
        async with running(lora_pair()) as (engine, (handle,)):
            session = await engine.open([(handle, 1.0)], timeout_s=5)
            known = data.draw(st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=20))
            for _ in range(data.draw(st.integers(1, 6))):
                kept = data.draw(st.integers(1, len(known)))
                ahead = data.draw(st.lists(st.integers(0, VOCAB - 1), max_size=5))
                known = known[:kept] + ahead
                if data.draw(st.booleans()):
                    session.prefetch(known)
                for position in range(data.draw(st.integers(1, len(known))), len(known) + 1):
                    assert_row(await session.row(known[:position]), models, known[:position])

    asyncio.run(drive())


async def test_a_stream_pays_for_each_token_once_and_for_no_row_of_its_prompt_but_the_last() -> None:
    async with running(lora_pair()) as (engine, (handle,)):
        session = await engine.open([(handle, 1.0)], timeout_s=5)
        prompt = ids(20)
        session.prefetch(prompt)
        await session.row(prompt)
        session.prefetch([*prompt, 1, 2, 3])
        for n in range(1, 4):
            await session.row([*prompt, 1, 2, 3][: 20 + n])
        stats = engine.stats()
        assert (stats.tokens, stats.rows) == (2 * 23, 4)
        await session.row([*prompt, 1, 5])  # replaces the second proposal
        assert engine.stats().tokens == 2 * 24


async def test_long_prompts_are_computed_in_chunks_while_other_streams_go_on() -> None:
    async with running(full_pair()) as (engine, (handle,)):
        talker = await engine.open([(handle, 1.0)], timeout_s=5)
        newcomer = await engine.open([(handle, 1.0)], timeout_s=5)
        said = ids(3)
        await talker.row(said)
        prompt = ids(90, 1)
        newcomer.prefetch(prompt)
        slow = asyncio.create_task(newcomer.row(prompt))
        turns = 0
        while not slow.done():
            said.append(7)
            await talker.row(said)
            turns += 1
        assert turns >= 4  # 90 tokens at 16 a batch
        assert_row(await slow, full_models(), prompt)


async def test_a_shared_prompt_prefix_is_computed_once_whether_its_stream_ended_or_runs() -> None:
    async with running(lora_pair(), spare_slots=4) as (engine, (handle,)):
        system = ids(40)

        async def ask(question: list[int]) -> None:
            session = await engine.open([(handle, 1.0)], timeout_s=5)
            assert_row(await session.row(system + question), lora_models(), system + question)
            session.close()

        await ask([1] * 10)
        assert engine.stats().tokens == 2 * 50
        await ask([4, 5])  # its stream has ended
        assert engine.stats().tokens == 2 * 52
        await asyncio.gather(ask([6] * 30), ask([7] * 30), ask([8] * 30))
        assert engine.stats().tokens == 2 * 142
        await ask([1] * 11)  # a chat goes on
        assert engine.stats().tokens == 2 * 143


async def test_streams_that_start_together_compute_their_common_prompt_once() -> None:
    async with running(lora_pair()) as (engine, (handle,)):
        prompt = ids(60)
        sessions = [await engine.open([(handle, 1.0)], timeout_s=5) for _ in range(4)]
        rows = await asyncio.gather(*(session.row(prompt) for session in sessions))
        for row in rows:
            assert_row(row, lora_models(), prompt)
        assert engine.stats().tokens == 2 * (60 + 3)


async def test_prefixes_are_not_shared_between_adapters_but_the_base_is() -> None:
    async with running(lora_pair(1), lora_pair(2)) as (engine, (first, second)):
        prompt = ids(40)
        for handle, seed in ((first, 1), (second, 2)):
            session = await engine.open([(handle, 1.0)], timeout_s=5)
            assert_row(await session.row(prompt), lora_models(seed), prompt)
            session.close()
        assert engine.stats().tokens == 2 * 40 + 40 + 1


async def test_ids_that_the_tokenizer_does_not_have_are_left_out_of_both_normalisations() -> None:
    async with running(full_pair(vocab_size=50, masked_ids=(3, 7))) as (engine, (handle,)):
        session = await engine.open([(handle, 2.0)], timeout_s=5)
        base, offset = whole(await session.row([1, 2]))
        real = [i for i in range(50) if i not in (3, 7)]
        wanted = [plain_logits(m, [1, 2])[-1].double()[real].log_softmax(-1).numpy() for m in full_models()]
        gone = [3, 7, *range(50, VOCAB)]
        assert (base[gone] == -np.inf).all()
        assert (offset[gone] == 0).all()
        np.testing.assert_allclose(base[real], wanted[0], atol=2e-4)
        np.testing.assert_allclose(offset[real], 2 * (wanted[1] - wanted[0]), atol=1e-3)


async def test_asking_again_for_a_row_that_was_passed_computes_it_again() -> None:
    async with running(full_pair()) as (engine, (handle,)):
        session = await engine.open([(handle, 1.0)], timeout_s=5)
        prompt = ids(12)
        await session.row(prompt)
        assert_row(await session.row(prompt[:5]), full_models(), prompt[:5])
        assert_row(await session.row(prompt), full_models(), prompt)


async def test_a_row_of_ids_that_were_replaced_meanwhile_is_not_taken_for_the_new_one() -> None:
    async with running(full_pair()) as (engine, (handle,)):
        session = await engine.open([(handle, 1.0)], timeout_s=5)
        prompt = ids(6)
        stale = await session.row(prompt)
        session.prefetch([*prompt, 1])
        replaced = asyncio.create_task(session.row([*prompt, 2]))
        await asyncio.sleep(0)
        session.deliver(0, len(prompt) + 1, stale)  # as a batch that was already running would
        row = await replaced
        assert row is not stale
        assert_row(row, full_models(), [*prompt, 2])


async def test_proposals_are_computed_no_further_ahead_than_the_bound() -> None:
    async with running(full_pair(), max_ahead=3) as (engine, (handle,)):
        session = await engine.open([(handle, 1.0)], timeout_s=5)
        prompt, proposals = ids(4), ids(20, 1)
        await session.row(prompt)
        session.prefetch(prompt + proposals)
        await session.row(prompt + proposals[:3])
        assert engine.stats().rows == 1 + 3
        assert_row(await session.row(prompt + proposals), full_models(), prompt + proposals)


@pytest.mark.parametrize(("device", "plans"), [("cuda:0", False), ("cpu", True)])
def test_on_a_gpu_attention_is_not_planned_anew_for_every_length(device: str, plans: bool) -> None:
    torch.backends.cuda.enable_cudnn_sdp(True)
    engine = Engine(EngineSettings(device=device))
    engine.start()
    engine.close()
    try:
        assert torch.backends.cuda.cudnn_sdp_enabled() is plans
    finally:
        torch.backends.cuda.enable_cudnn_sdp(True)
