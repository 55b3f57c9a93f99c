"""When calls go out: never in a pause, never past a limit, in order, and not all at once after a pause."""

import asyncio
from collections.abc import Callable

import pytest

from deltaserve.errors import UpstreamBusy
from deltaserve.server.upstream.http.retry_budget import RetryBudget
from deltaserve.server.upstream.http.throttle import OverLimit, Place, Rates, Throttle, Window
from deltaserve.server.upstream.http.transport import Limits, Transport
from deltaserve.server.upstream.http.weight import tokens_of
from tests.support.replay import DONE, Reply, Request, event, json_reply, replaying

pytestmark = pytest.mark.anyio
PATIENT = Rates(patience_s=30.0)


class Clock:
    """The loop's time, which passes only when it is told to, so that no test waits."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._loop = asyncio.get_running_loop()
        self._real, self.ahead = self._loop.time, 0.0
        monkeypatch.setattr(self._loop, "time", lambda: self._real() + self.ahead)

    async def pass_by(self, seconds: float) -> None:
        self.ahead += seconds
        for _ in range(5):
            await asyncio.sleep(0)
        await asyncio.sleep(0.002)  # the selector looks at timers
        for _ in range(5):
            await asyncio.sleep(0)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": False}


@pytest.fixture
async def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


async def entering(throttle: Throttle, count: int, went: list[int], tokens: int = 0) -> list["asyncio.Task[Place]"]:
    async def enter(number: int) -> Place:
        place = await throttle.enter(tokens)
        went.append(number)
        return place

    tasks = [asyncio.create_task(enter(number)) for number in range(count)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return tasks


async def ended(tasks: list["asyncio.Task[Place]"]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_no_call_goes_out_before_the_pause_is_over(clock: Clock) -> None:
    throttle, went = Throttle(PATIENT), list[int]()
    (await throttle.enter()).refused(5.0)
    tasks = await entering(throttle, 3, went)
    await clock.pass_by(4.9)
    assert went == []
    await clock.pass_by(0.2)
    assert went == [0]
    await ended(tasks)


async def test_after_a_pause_one_call_goes_out_then_two_for_each_that_was_taken(clock: Clock) -> None:
    throttle, went = Throttle(PATIENT), list[int]()
    (await throttle.enter()).refused(1.0)
    tasks = await entering(throttle, 16, went)
    await clock.pass_by(1.01)
    assert went == [0]
    tasks[0].result().taken()
    await clock.pass_by(0)
    assert went == [0, 1, 2]
    tasks[1].result().taken()
    tasks[2].result().taken()
    await clock.pass_by(0)
    assert went == [0, 1, 2, 3, 4, 5, 6]
    await ended(tasks)


async def test_a_call_that_is_never_answered_holds_the_others_up_for_a_moment_only(clock: Clock) -> None:
    throttle, went = Throttle(PATIENT), list[int]()
    (await throttle.enter()).refused(1.0)
    tasks = await entering(throttle, 4, went)
    await clock.pass_by(1.01)
    await clock.pass_by(0.26)
    await clock.pass_by(0.26)
    assert went == [0, 1, 2]
    await ended(tasks)


async def test_a_call_that_had_left_before_the_refusal_does_not_end_the_caution(clock: Clock) -> None:
    throttle, went = Throttle(PATIENT), list[int]()
    before, refused = await throttle.enter(), await throttle.enter()
    refused.refused(1.0)
    before.taken()
    tasks = await entering(throttle, 4, went)
    await clock.pass_by(1.01)
    assert went == [0]
    await ended(tasks)


async def test_where_nobody_says_for_how_long_pauses_grow_by_rounds_and_not_by_calls(clock: Clock) -> None:
    throttle = Throttle(PATIENT)
    for place in [await throttle.enter() for _ in range(16)]:
        place.refused(None)
    assert throttle.pause_s == pytest.approx(0.25, abs=0.05)
    await clock.pass_by(0.3)
    (await throttle.enter()).refused(None)
    assert throttle.pause_s == pytest.approx(0.5, abs=0.05)


async def test_a_pause_that_is_longer_than_the_patience_is_told_at_once_with_its_length() -> None:
    throttle = Throttle(Rates(patience_s=2.0))
    (await throttle.enter()).refused(30.0)
    with pytest.raises(OverLimit) as caught:
        await throttle.enter()
    assert caught.value.retry_after_s == pytest.approx(30.0, abs=0.5)
    with pytest.raises(OverLimit):
        await throttle.quiet()


async def test_a_refused_call_goes_first_when_it_comes_again(clock: Clock) -> None:
    throttle, went = Throttle(PATIENT), list[int]()
    (await throttle.enter()).refused(1.0)
    tasks = await entering(throttle, 2, went)
    again = asyncio.create_task(throttle.enter(again=True))
    await asyncio.sleep(0)
    await clock.pass_by(1.01)
    assert again.done() and went == []
    await ended([*tasks, again])


async def test_no_more_calls_than_allowed_are_under_way_and_the_others_follow_in_order(clock: Clock) -> None:
    throttle, went = Throttle(Rates(at_once=2, patience_s=30.0)), list[int]()
    tasks = await entering(throttle, 5, went)
    assert (went, throttle.queued) == ([0, 1], 4)
    tasks[1].result().leave()
    await clock.pass_by(0)
    assert went == [0, 1, 2]
    await ended(tasks)


async def test_a_caller_who_leaves_gives_its_turn_to_the_next_one(clock: Clock) -> None:
    throttle, went = Throttle(Rates(at_once=1, patience_s=30.0)), list[int]()
    tasks = await entering(throttle, 4, went)
    tasks[1].cancel()
    tasks[0].result().leave()
    tasks[2].cancel()  # at the moment at which it has got its turn
    await clock.pass_by(0)
    assert went == [0, 3]
    tasks[3].result().leave()
    assert throttle.queued == 0
    await ended(tasks)


async def test_the_queue_has_an_end() -> None:
    throttle = Throttle(Rates(at_once=1, most_waiting=1, patience_s=30.0))
    await throttle.enter()
    waiting = asyncio.create_task(throttle.enter())
    await asyncio.sleep(0)
    with pytest.raises(OverLimit, match="Too many"):
        await throttle.enter()
    await ended([waiting])


async def test_nobody_waits_longer_than_the_patience(clock: Clock) -> None:
    throttle = Throttle(Rates(at_once=1, patience_s=3.0))
    await throttle.enter()
    waiting = asyncio.create_task(throttle.enter())
    await asyncio.sleep(0)
    await clock.pass_by(3.1)
    with pytest.raises(OverLimit):
        await waiting
    assert throttle.queued == 1  # the place is still taken by the first call alone


async def test_calls_a_minute_are_those_of_any_minute(clock: Clock) -> None:
    throttle, went = Throttle(Rates(calls_per_minute=3, patience_s=100.0)), list[int]()
    tasks = await entering(throttle, 5, went)
    await clock.pass_by(59.0)
    assert went == [0, 1, 2]
    await clock.pass_by(1.5)
    assert went == [0, 1, 2, 3, 4]
    await ended(tasks)


async def test_tokens_a_minute_count_prompts_at_once_and_answers_when_they_end(clock: Clock) -> None:
    throttle, went = Throttle(Rates(tokens_per_minute=100, patience_s=100.0)), list[int]()
    place = await throttle.enter(60)
    await clock.pass_by(10.0)
    place.leave(generated=40)
    tasks = await entering(throttle, 1, went, tokens=50)
    await clock.pass_by(49.0)
    assert went == []
    await clock.pass_by(1.5)
    assert went == [0]
    await ended(tasks)


def test_one_call_that_is_larger_than_the_limit_goes_alone() -> None:
    window = Window(100)
    assert window.wait_s(0.0, 250) == 0.0
    window.add(0.0, 10)
    assert window.wait_s(5.0, 250) == 55.0


def test_prompts_are_weighed_by_their_ids_and_texts_by_their_length() -> None:
    assert tokens_of({"prompt": [1, 2, 3]}) == 3
    assert tokens_of({"prompt": [[1, 2], [1, 2, 3]]}) == 5
    assert tokens_of({"input_ids": [1, 2]}) == 2
    assert tokens_of({"messages": [{"role": "user", "content": "x" * 400}]}) > 100


# with a real server


def busy(times: int, retry_after: str) -> Callable[[Request], Reply]:
    """Refuses so many calls, then answers."""
    left = [times]

    def answer(_: Request) -> Reply:
        left[0] -= 1
        return Reply([event({}), DONE]) if left[0] < 0 else json_reply({}, 429, **{"retry-after": retry_after})

    return answer


async def read(client: Transport) -> None:
    async with client.stream("/v1/completions", {"prompt": [1]}) as events:
        while await events.wait():
            events.arrived.clear()


async def test_refused_calls_come_again_until_they_are_taken_and_none_is_lost() -> None:
    async with replaying(busy(5, "0")) as replay:
        client = Transport(replay.url, throttle=Throttle(PATIENT))
        await asyncio.gather(*(read(client) for _ in range(4)))
        assert len(replay.requests) == 5 + 4
        assert client.throttle.queued == 0
        await client.aclose()


async def test_with_one_attempt_a_refusal_is_told_at_once_and_later_calls_wait() -> None:
    async with replaying(busy(1, "60")) as replay:
        client = Transport(replay.url, limits=Limits(attempts=1), throttle=Throttle(Rates(patience_s=1.0)))
        for _ in range(3):
            with pytest.raises(UpstreamBusy) as caught:
                await read(client)
            assert caught.value.retry_after_s is not None
        with pytest.raises(UpstreamBusy):
            await client.get_json("/v1/models")
        assert len(replay.requests) == 1
        await client.aclose()


# retries


def test_retries_are_a_share_of_calls() -> None:
    budget = RetryBudget(share=0.2, most=2.0)
    assert [budget.spend() for _ in range(3)] == [True, True, False]
    for _ in range(5):
        budget.called()
    assert [budget.spend() for _ in range(2)] == [True, False]


async def test_an_upstream_that_fails_every_call_is_asked_little_more_than_once_for_each() -> None:
    async with replaying(Reply([b"x"], 500)) as replay:
        client = Transport(replay.url)
        for _ in range(100):
            client._budget.called()  # as by calls that went well
        client._budget._left = 1.0
        for _ in range(10):
            with pytest.raises(Exception, match="failed"):
                await read(client)
        assert len(replay.requests) <= 10 + 3
        await client.aclose()
