"""Errors: what each means to us, in the vendor's own body; that no key, no prompt and no answer is repeated."""

import logging

import pytest
import structlog

from deltaserve.errors import (
    UncorrectableUpstream,
    UpstreamBusy,
    UpstreamError,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from deltaserve.server.upstream.probing.connect import connect
from tests.server.upstream.conformance.rows import KEY, K, Row, drafted, each_row, opened, tokens_of
from tests.support.replay import replaying
from tests.support.standins.base import SECRET
from tests.support.standins.oracle import TOKENIZER

pytestmark = [pytest.mark.anyio, each_row]

MEANING: dict[int, type[UpstreamError]] = {
    400: UpstreamRefused, 401: UpstreamRefused, 403: UpstreamRefused, 404: UpstreamRefused, 408: UpstreamTimeout,
    409: UpstreamBusy, 413: UpstreamRefused, 422: UpstreamRefused, 429: UpstreamBusy, 500: UpstreamUnreachable,
    502: UpstreamUnreachable, 503: UpstreamBusy, 504: UpstreamUnreachable, 529: UpstreamBusy,
}  # fmt: skip


def require_silent(*texts: str) -> None:
    for text in texts:
        assert KEY not in text and KEY[3:] not in text
        assert SECRET not in text and "Who was" not in text


@pytest.mark.parametrize("status", MEANING)
async def test_a_status_means_the_same_whoever_says_it_and_repeats_nothing(
    row: Row, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with opened(row, status=status, key=KEY) as (box, _):
        with pytest.raises(UpstreamError) as caught:
            await drafted(box)
    assert isinstance(caught.value, MEANING[status])
    assert caught.value.retryable is (MEANING[status] is not UpstreamRefused)
    assert str(status) in caught.value.message
    require_silent(caught.value.message, repr(caught.value), caplog.text)


async def test_a_server_that_is_busy_says_for_how_long(row: Row) -> None:
    async with opened(row, status=429, retry_after="7") as (box, _):
        with pytest.raises(UpstreamBusy) as caught:
            await drafted(box)
    assert caught.value.retry_after_s == 7.0


async def test_an_error_in_the_middle_ends_the_answer_behind_what_was_shown(row: Row) -> None:
    seen: list[int | None] = []
    async with opened(row, error_after=2, script=b"It is so") as (box, _):
        with pytest.raises(UpstreamError) as caught:
            await tokens_of(box, 8, seen)
    assert "cut off" not in caught.value.message  # the event was understood
    assert seen == list(b"It is")[: len(seen)] and (2 <= len(seen) <= 3 or row.counted)


async def test_a_wrong_key_is_named_as_the_reason_and_never_shown(row: Row) -> None:
    with structlog.testing.capture_logs() as logs:
        async with replaying(row.stand_in(key="sk-another")) as replay:
            with pytest.raises((UncorrectableUpstream, UpstreamError)) as caught:
                await connect(replay.url, tokenizer=TOKENIZER, key=KEY, k=K, **row.how)
    assert "key" in caught.value.message
    require_silent(caught.value.message, str(logs))
    assert "sk-another" not in caught.value.message + str(logs)


async def test_the_key_goes_into_its_header_alone(row: Row) -> None:
    with structlog.testing.capture_logs() as logs:
        async with replaying(row.stand_in(key=KEY)) as replay:
            box = await connect(replay.url, tokenizer=TOKENIZER, key=KEY, k=K, **row.how)
            await drafted(box)
            await box.aclose()
    assert all(KEY not in request.path and KEY not in str(request.body) for request in replay.requests)
    require_silent(str(logs), str(box.capabilities.describe()))
