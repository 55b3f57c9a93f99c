"""The parts of `make drill-pool`: a limit that refuses and counts, and its drills in small."""

import argparse
import time
from pathlib import Path

import pytest

from benchmarks import drill_pool
from benchmarks.pooling import limiter
from benchmarks.pooling.limiter import PerSecond, every_second, limited
from deltaserve.errors import UpstreamBusy
from deltaserve.server.upstream.http.throttle import Rates, Throttle
from deltaserve.server.upstream.http.transport import Limits, Transport
from tests.support.replay import DONE, Replay, Reply, event, replaying


def port_of(replay: Replay) -> int:
    return int(replay.url.rsplit(":", 1)[1])


async def read(client: Transport) -> int:
    async with client.stream("/v1/completions", {"prompt": [1]}) as events:
        while await events.wait():
            events.arrived.clear()
        return events.count


@pytest.mark.anyio
async def test_the_limiter_lets_answers_through_whole_and_refuses_the_others_with_a_retry_after() -> None:
    answer = Reply([event({"n": n}) for n in range(5)] + [DONE])
    async with replaying(answer) as replay, limited(port_of(replay), every_second()) as (url, seen):
        seen.on = True
        client = Transport(url, limits=Limits(attempts=1), throttle=Throttle(Rates(patience_s=0.5)))
        assert await read(client) == 6
        with pytest.raises(UpstreamBusy) as caught:
            await read(client)
        assert caught.value.retry_after_s == limiter.RETRY_AFTER_S
        assert (seen.accepted, seen.refused, seen.early) == (1, 1, 0)
        await client.aclose()


@pytest.mark.anyio
async def test_a_call_before_its_retry_after_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limiter, "_ON_THE_WIRE_S", 0.0)
    async with replaying(Reply([event({}), DONE])) as replay, limited(port_of(replay), lambda: False) as (url, seen):
        seen.on = True
        for _ in range(2):  # each without the memory of the other
            client = Transport(url, limits=Limits(attempts=1))
            with pytest.raises(UpstreamBusy):
                await read(client)
            await client.aclose()
        assert (seen.refused, seen.early) == (2, 1)


def test_a_rate_lets_as_many_through_as_it_says() -> None:
    allow = PerSecond(rate=1000.0, burst=3.0)
    time.sleep(0.01)
    assert [allow() for _ in range(4)] == [True, True, True, False]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["kill", "half"])
def test_a_drill_in_small_loses_and_repeats_nothing(name: str, tmp_path: Path) -> None:
    args = argparse.Namespace(seconds=9.0, every=4.0, clients=4, tokens=24, workers=0, ms_per_token=10.0)
    row = drill_pool._run(name, tmp_path, args)
    assert row["failed_answers"] == 0 and row["answers"] > 0
    if name == "kill":
        assert row["kills"] == 2
        assert (row["repeated_or_skipped_tokens"], row["whole_answers_that_differ"]) == (0, 0)
    else:
        assert row["calls_refused"] > 0 and row["calls_before_retry_after"] == 0
