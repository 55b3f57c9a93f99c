"""The engine over pages, as on a GPU: the same rows, and who pays when memory is short."""

import asyncio

import pytest

from deltaserve.errors import OffsetUnavailable
from deltaserve.offset_models.engine.forward import runner
from deltaserve.offset_models.engine.forward.paged import pages
from tests.offset_models.engine.test_engine import (
    assert_row,
    full_models,
    full_pair,
    ids,
    lora_models,
    lora_pair,
    running,
)

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def over_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "runs_over_pages", lambda _device: True)


async def test_streams_that_share_a_prefix_get_the_rows_of_the_two_models() -> None:
    async with running(lora_pair(), max_len=200, chunk_tokens=32) as (engine, (handle,)):
        common = ids(90)

        async def stream(seed: int) -> None:
            session = await engine.open([(handle, 1.0)], timeout_s=5)
            prompt = [*common, *ids(3, seed)]
            for token in ids(3, seed + 50):
                assert_row(await session.row(prompt), lora_models(), prompt)
                prompt.append(token)
            assert_row(await session.row(prompt[:70]), lora_models(), prompt[:70])
            session.close()

        await asyncio.gather(*(stream(seed) for seed in range(4)))
        await stream(7)
        stats = engine.stats()
        assert stats.kv_bytes > 0
        assert stats.tokens < 2 * 90 * 4  # the prefix was computed once


async def test_the_stream_that_finds_no_memory_fails_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "FIRST_CHUNK", 4)  # one for scratch: three pages for streams
    monkeypatch.setattr(pages.PagedKV, "_affordable", lambda kv: 0 if kv._chunks else 4)
    async with running(full_pair(), max_len=200, chunk_tokens=256) as (engine, (handle,)):
        short, long = ids(60, 1), ids(100, 2)
        one, two = [await engine.open([(handle, 1.0)], timeout_s=5) for _ in range(2)]
        assert_row(await one.row(short), full_models(), short)
        assert_row(await two.row(long), full_models(), long)
        short += ids(9, 3)
        long += ids(5, 4)
        rows = await asyncio.gather(one.row(short), two.row(long), return_exceptions=True)
        assert isinstance(rows[0], OffsetUnavailable) and "No memory is left on the device" in str(rows[0])
        assert_row(rows[1], full_models(), long)
        two.close()  # what it leaves is a cache, given up for the next
        three = await engine.open([(handle, 1.0)], timeout_s=5)
        other = ids(130, 9)
        assert_row(await three.row(other), full_models(), other)
