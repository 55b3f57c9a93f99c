"""Rows behind several ways on from one stream, against one plain forward for each."""

import asyncio

import pytest

from deltaserve.errors import ContextLengthExceeded, OffsetUnavailable, RateLimited
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
from tests.support.models import VOCAB

pytestmark = pytest.mark.anyio
WAYS = [[5], [5, 6], [7, 8, 9], []]


@pytest.mark.parametrize(("pair", "models"), [(full_pair, full_models), (lora_pair, lora_models)])
async def test_rows_of_all_ways_are_those_that_each_has_alone(pair, models):
    async with running(pair()) as (engine, (handle,)):
        session, prompt = await engine.open([(handle, 1.0)], timeout_s=5), ids(20)
        for row, way in zip(await session.rows_behind(prompt, WAYS), WAYS, strict=True):
            assert_row(row, models(), [*prompt, *way])
        session.close()


async def test_what_the_stream_has_computed_behind_the_ids_stays():
    async with running(full_pair()) as (engine, (handle,)):
        session, prompt = await engine.open([(handle, 1.0)], timeout_s=5), ids(20)
        await session.row([*prompt, 5])
        tokens = engine.stats().tokens
        await session.rows_behind(prompt, [[5, 6], [5, 7], [8]])
        assert engine.stats().tokens - tokens == 2 * 3  # two members, three tokens that were not there
        row = await session.row([*prompt, 5, 6])
        assert engine.stats().tokens - tokens == 2 * 4
        assert_row(row, full_models(), [*prompt, 5, 6])
        session.close()


async def test_ways_of_several_streams_beside_the_steps_of_others():
    async with running(full_pair(), lora_pair(1)) as (engine, (full, lora)):
        sessions = [await engine.open([(handle, 1.0)], timeout_s=5) for handle in (full, lora, full)]
        prompts = [ids(9, 1), ids(30, 2), ids(12, 3)]
        for _ in range(2):
            a, b, c = await asyncio.gather(
                sessions[0].rows_behind(prompts[0], WAYS),
                sessions[1].rows_behind(prompts[1], WAYS),
                sessions[2].row(prompts[2]),
            )
            for rows, models, prompt in ((a, full_models(), prompts[0]), (b, lora_models(1), prompts[1])):
                for row, way in zip(rows, WAYS, strict=True):
                    assert_row(row, models, [*prompt, *way])
            assert_row(c, full_models(), prompts[2])
            for prompt in prompts:
                prompt.append(4)
        for session in sessions:
            session.close()


async def test_who_asked_may_go_and_the_stream_goes_on():
    async with running(full_pair()) as (engine, (handle,)):
        session, prompt = await engine.open([(handle, 1.0)], timeout_s=5), ids(40)
        asking = asyncio.create_task(session.rows_behind(prompt, WAYS))
        await asyncio.sleep(0)
        asking.cancel()
        assert_row(await session.row(prompt[:10]), full_models(), prompt[:10])
        (row,) = await session.rows_behind(prompt[:12], [[3]])
        assert_row(row, full_models(), [*prompt[:12], 3])
        session.close()


async def test_near_the_end_of_the_context_they_are_computed_one_after_the_other():
    async with running(full_pair()) as (engine, (handle,)):
        session, prompt = await engine.open([(handle, 1.0)], timeout_s=5), ids(SMALL["max_len"] - 2)
        await session.row([*prompt, 5])
        for row, way in zip(await session.rows_behind(prompt, [[6, 7], [8]]), [[6, 7], [8]], strict=True):
            assert_row(row, full_models(), [*prompt, *way])
        with pytest.raises(ContextLengthExceeded):
            await session.rows_behind(prompt, [[1, 2, 3]])
        session.close()


async def test_an_id_that_no_member_knows_ends_the_stream():
    async with running(full_pair()) as (engine, (handle,)):
        session = await engine.open([(handle, 1.0)], timeout_s=5)
        with pytest.raises(OffsetUnavailable, match="outside the vocabulary"):
            await session.rows_behind(ids(5), [[VOCAB + 9]])
        session.close()


async def test_sessions_that_are_opened_together_are_one_stream():
    async with running(full_pair(), lora_pair(1), max_streams=1, max_waiting=0) as (engine, (full, lora)):
        specs = [[(full, 1.0)], [(lora, 1.0)]]
        for _ in range(2):
            sessions = await engine.open_each(specs, timeout_s=5)
            with pytest.raises(RateLimited):
                await engine.open([(full, 1.0)], timeout_s=5)
            for session, models in zip(sessions, (full_models(), lora_models(1)), strict=True):
                assert_row(await session.row(ids(5)), models, ids(5))
                session.close()
