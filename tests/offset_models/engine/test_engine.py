"""The engine's rows against plain forwards of both models, and its promises about slots, failures and ends."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import PreTrainedModel

from deltaserve.errors import (
    BadCheckpoint,
    BadRequest,
    Conflict,
    ContextLengthExceeded,
    OffsetUnavailable,
    RateLimited,
    Unavailable,
)
from deltaserve.offset_models.engine.engine import Engine
from deltaserve.offset_models.engine.pair import Adapter, FullModel, Pair, PairHandle
from deltaserve.offset_models.engine.settings import EngineSettings
from deltaserve.server.decoding.protocols import OffsetRow
from tests.support.models import VOCAB, merged, plain_logits, random_adapter, tiny_llama, tiny_qwen2

pytestmark = pytest.mark.anyio

Models = tuple[PreTrainedModel, PreTrainedModel]
SMALL = {"max_streams": 4, "max_len": 96, "spare_slots": 2, "threads": 1, "chunk_tokens": 16, "prefix_block": 8}


def full_pair(seed: int = 0, **changes: object) -> Pair:
    initial = FullModel(f"o{seed}", lambda: tiny_llama(seed))
    return Pair(initial, FullModel(f"u{seed}", lambda: tiny_llama(seed + 100)), **{"vocab_size": VOCAB, **changes})


def lora_pair(seed: int = 0, base: int = 0) -> Pair:
    adapter = Adapter(f"a{seed}", lambda model: random_adapter(model, seed))
    return Pair(FullModel(f"o{base}", lambda: tiny_llama(base)), adapter, VOCAB)


@cache
def full_models(seed: int = 0) -> Models:
    return tiny_llama(seed), tiny_llama(seed + 100)


@cache
def lora_models(seed: int = 0, base: int = 0) -> Models:
    model = tiny_llama(base)
    return tiny_llama(base), merged(model, random_adapter(model, seed))


def expected(models: Models, ids: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """(log p_o, δ) after `ids`, float64."""
    base, unlearned = (plain_logits(m, ids)[-1].double().log_softmax(-1).numpy() for m in models)
    return base, unlearned - base


def whole(row: OffsetRow) -> tuple[np.ndarray, np.ndarray]:
    ids = np.arange(row.vocab_size)
    return row.base(ids), row.offset(ids)


def assert_row(row: OffsetRow, models: Models, ids: Sequence[int], strength: float = 1.0) -> None:
    base, offset = expected(models, ids)
    np.testing.assert_allclose(whole(row)[0], base, atol=2e-4)
    np.testing.assert_allclose(whole(row)[1], strength * offset, atol=4e-4)


def ids(n: int, seed: int = 0) -> list[int]:
    return random.Random(seed).choices(range(VOCAB), k=n)


@asynccontextmanager
async def running(*pairs: Pair, **changes: object) -> AsyncIterator[tuple[Engine, list[PairHandle]]]:
    engine = Engine(EngineSettings(**{**SMALL, **changes}))
    engine.start()
    try:
        yield engine, [await engine.add_pair(pair) for pair in pairs]
    finally:
        engine.close()


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


async def test_a_place_that_becomes_free_goes_to_the_next_in_the_queue() -> None:
    async with running(full_pair(), max_streams=1, max_waiting=1) as (engine, (handle,)):
        session = await engine.open([(handle, 1.0)], timeout_s=5)
        waiting = asyncio.create_task(engine.open([(handle, 1.0)], timeout_s=5))
        await asyncio.sleep(0)
        with pytest.raises(RateLimited) as refused:
            await engine.open([(handle, 1.0)], timeout_s=5)
        assert refused.value.retry_after_s == 1.0
        task = asyncio.create_task(session.row(ids(80)))
        await asyncio.sleep(0)
        session.close()  # in the middle of its prompt
        with pytest.raises(OffsetUnavailable):
            await task
        follower = await waiting
        assert_row(await follower.row(ids(9, 2)), full_models(), ids(9, 2))


async def test_waiting_for_a_place_ends_after_the_time_given_and_leaves_no_reservation() -> None:
    async with running(full_pair(), max_streams=1) as (engine, (handle,)):
        session = await engine.open([(handle, 1.0)], timeout_s=5)
        with pytest.raises(Unavailable):
            await engine.open([(handle, 1.0)], timeout_s=0.01)
        given_up = asyncio.create_task(engine.open([(handle, 1.0)], timeout_s=5))
        await asyncio.sleep(0)
        given_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await given_up
        session.close()
        session.close()
        (await engine.open([(handle, 1.0)], timeout_s=0.01)).close()
        assert engine.stats().streams == 0


async def test_prompts_that_cannot_have_a_row_are_refused_without_harm_to_others() -> None:
    async with running(full_pair()) as (engine, (handle,)):
        session = await engine.open([(handle, 1.0)], timeout_s=5)
        with pytest.raises(BadRequest):
            await session.row([])
        with pytest.raises(ContextLengthExceeded):
            await session.row(ids(97))
        await session.row(ids(96))
        for bad in ([1, VOCAB], [-1]):
            stranger = await engine.open([(handle, 1.0)], timeout_s=5)
            stranger.prefetch(bad)
            with pytest.raises(OffsetUnavailable):
                await stranger.row(bad)
            stranger.close()


async def test_a_row_that_is_not_finite_fails_its_stream_only_and_leaves_nothing_behind() -> None:
    async with running(full_pair(), spare_slots=0, max_streams=2) as (engine, (handle,)):
        model = engine._store.models["u0"]
        with torch.inference_mode():
            model.runner.model.get_input_embeddings().weight[5] = torch.nan
        sick, well = [await engine.open([(handle, 1.0)], timeout_s=5) for _ in range(2)]
        failed, row = await asyncio.gather(sick.row([4, 5]), well.row([1, 2, 3]), return_exceptions=True)
        assert isinstance(failed, OffsetUnavailable)
        assert_row(row, full_models(), [1, 2, 3])
        with pytest.raises(OffsetUnavailable):
            await sick.row([4, 5, 6])
        sick.close()
        again = await engine.open([(handle, 1.0)], timeout_s=5)
        short, long = await asyncio.gather(again.row([6]), well.row([1, 2, 3, 4]))  # one masked call reads both slots
        assert_row(short, full_models(), [6])
        assert_row(long, full_models(), [1, 2, 3, 4])
        assert engine.alive
        assert engine.stats().failed_streams == 1


async def test_an_error_in_the_forward_fails_the_stream_that_causes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(full_pair()) as (engine, (handle,)):
        runner = engine._store.models["o0"].runner
        forward = runner.forward_packed

        def faulty(batch: list) -> torch.Tensor:
            if any(13 in work.token_ids for work in batch):
                raise RuntimeError("out of memory")
            return forward(batch)

        monkeypatch.setattr(runner, "forward_packed", faulty)
        sessions = [await engine.open([(handle, 1.0)], timeout_s=5) for _ in range(3)]
        rows = await asyncio.gather(*(s.row([i + 12, 1]) for i, s in enumerate(sessions)), return_exceptions=True)
        assert isinstance(rows[1], OffsetUnavailable)
        for i in (0, 2):
            assert_row(rows[i], full_models(), [i + 12, 1])


async def test_when_the_thread_dies_everyone_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(full_pair(), max_streams=1) as (engine, (handle,)):
        session = await engine.open([(handle, 1.0)], timeout_s=5)
        waiting = asyncio.create_task(engine.open([(handle, 1.0)], timeout_s=5))
        await asyncio.sleep(0)
        monkeypatch.setattr("deltaserve.offset_models.engine.worker.choose", lambda *_: 1 / 0)
        with pytest.raises(OffsetUnavailable):
            await session.row([1])
        with pytest.raises(OffsetUnavailable):
            await waiting
        with pytest.raises(OffsetUnavailable):
            await session.row([1, 2])
        with pytest.raises(OffsetUnavailable):
            await engine.open([(handle, 1.0)], timeout_s=5)
        with pytest.raises(OffsetUnavailable):
            await engine.add_pair(full_pair(1))
        assert not engine.alive
        assert engine.failure == "ZeroDivisionError"


async def test_close_fails_open_sessions_and_may_be_repeated() -> None:
    engine = Engine(EngineSettings(**SMALL))
    with pytest.raises(OffsetUnavailable):
        await engine.add_pair(full_pair())
    engine.start()
    engine.start()
    handle = await engine.add_pair(full_pair())
    session = await engine.open([(handle, 1.0)], timeout_s=5)
    engine.close()
    engine.close()
    assert not engine.alive
    with pytest.raises(OffsetUnavailable):
        await session.row([1])


async def test_pairs_come_and_go_while_others_run_and_leave_no_memory() -> None:
    async with running(lora_pair(1)) as (engine, (first,)):
        session = await engine.open([(first, 1.0)], timeout_s=5)
        said = ids(5)
        await session.row(said)
        second, other = await engine.add_pair(lora_pair(2)), await engine.add_pair(full_pair(7))
        assert set(engine._store.models) == {"o0", "o7", "u7"}
        assert engine.pair_bytes(second) < engine.pair_bytes(first) < engine.pair_bytes(other)
        assert_row(await session.row([*said, 4]), lora_models(1), [*said, 4])
        with pytest.raises(Conflict):
            await engine.remove_pair(first)
        for handle in (second, other):
            await engine.remove_pair(handle)
            await engine.remove_pair(handle)
        assert set(engine._store.models) == {"o0"}
        assert_row(await session.row([*said, 4, 4]), lora_models(1), [*said, 4, 4])
        with pytest.raises(OffsetUnavailable):
            await engine.open([(second, 1.0)], timeout_s=5)
        session.close()
        await engine.remove_pair(first)
        assert not engine._store.models


async def test_a_removed_model_is_really_freed() -> None:
    import weakref

    async with running(full_pair()) as (engine, (handle,)):
        seen = weakref.ref(engine._store.models["o0"].runner.model)
        session = await engine.open([(handle, 1.0)], timeout_s=5)
        await session.row([1])
        session.close()
        del session
        await engine.remove_pair(handle)
        assert seen() is None


async def test_a_pair_that_cannot_run_changes_nothing() -> None:
    async with running(lora_pair(1)) as (engine, _):
        with pytest.raises(BadCheckpoint, match="62 ids"):
            await engine.add_pair(full_pair(3, vocab_size=62))
        with pytest.raises(BadCheckpoint, match="max_len"):
            await engine.add_pair(
                Pair(FullModel("short", lambda: tiny_qwen2(max_position_embeddings=32)), full_pair().unlearned, VOCAB)
            )
        assert set(engine._store.models) == {"o0"}


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
