"""The engine's promises about places, failures and ends."""

import asyncio

import pytest
import torch

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
from deltaserve.offset_models.engine.pair import FullModel, Pair
from deltaserve.offset_models.engine.settings import EngineSettings
from tests.offset_models.engine.tiny_engine import (
    SMALL,
    assert_row,
    full_models,
    full_pair,
    ids,
    lora_models,
    lora_pair,
    running,
)
from tests.support.models import VOCAB, tiny_qwen2

pytestmark = pytest.mark.anyio


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
