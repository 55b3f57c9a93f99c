"""Streams: cut ones, comments between events, and calls that end upstream when nobody wants them any more."""

import asyncio

import pytest

from deltaserve.errors import UpstreamUnreachable
from deltaserve.server.decoding.protocols import DraftParams
from tests.server.upstream.conformance.rows import Row, drafted, each_row, opened, require_exact, tokens_of
from tests.support.standins.oracle import PROMPT, readable

pytestmark = [pytest.mark.anyio, each_row]

ANSWER = readable(PROMPT, 6)


async def test_a_stream_that_is_cut_gives_what_was_whole_and_then_an_error(row: Row) -> None:
    seen: list[int | None] = []
    async with opened(row, script=ANSWER, cut_after=4) as (box, _):
        with pytest.raises(UpstreamUnreachable):
            await tokens_of(box, 6, seen)
    assert seen == ANSWER[: len(seen)] and (3 <= len(seen) <= 5 or row.counted)


async def test_a_stream_that_stops_without_having_ended_gives_what_was_whole_and_then_an_error(row: Row) -> None:
    seen: list[int | None] = []
    async with opened(row, script=ANSWER, stops_after=4) as (box, _):
        with pytest.raises(UpstreamUnreachable):
            await tokens_of(box, 6, seen)
    assert seen == ANSWER[: len(seen)] and (3 <= len(seen) <= 5 or row.counted)


async def test_comments_between_events_change_nothing(row: Row) -> None:
    async with opened(row, script=ANSWER, comments=True) as (box, _):
        proposals = await drafted(box, tokens=6)
    for at, proposal in enumerate(proposals):
        require_exact(proposal, [*PROMPT, *ANSWER[:at]])
    shown = [proposal.token_id for proposal in proposals]
    assert shown == ANSWER or (row.counted and shown == [*ANSWER[:-1], None])


async def test_a_call_ends_upstream_as_soon_as_its_draft_is_left(row: Row) -> None:
    if row.counted:
        return  # it is left by whoever waits for it
    async with opened(row, script=ANSWER, waits_after=3) as (box, replay):
        async with box.draft(PROMPT, DraftParams(0.0, 6)) as draft:
            first = await anext(aiter(draft))
            assert not replay.left.is_set()
        async with asyncio.timeout(2.0):
            await replay.left.wait()
    assert first.token_id == ANSWER[0]


async def test_a_call_ends_upstream_when_whoever_waits_for_it_is_cancelled(row: Row) -> None:
    async with opened(row, script=ANSWER, waits_after=2) as (box, replay):
        shown = asyncio.Event()
        if row.counted:
            shown.set()  # nothing is handed out before the end

        async def wait_for_more() -> None:
            async with box.draft(PROMPT, DraftParams(0.0, 6)) as draft:
                async for _ in draft:
                    shown.set()

        task = asyncio.create_task(wait_for_more())
        async with asyncio.timeout(2.0):
            await shown.wait()
            await asyncio.sleep(0.1 if row.counted else 0)
        task.cancel()
        async with asyncio.timeout(2.0):
            await replay.left.wait()
        assert (await asyncio.gather(task, return_exceptions=True)) and task.cancelled()
