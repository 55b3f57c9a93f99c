"""Which member takes a call, what happens where it fails, and what it cost."""

import asyncio
from contextlib import AsyncExitStack

import numpy as np
import pytest

from deltaserve.errors import (
    MalformedTopK,
    OffsetUnavailable,
    UpstreamBusy,
    UpstreamChanged,
    UpstreamError,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from deltaserve.server.decoding.protocols import Ahead, Floats, Ids
from deltaserve.server.upstream.cost import Cost
from deltaserve.server.upstream.http.refusals import Refusal
from deltaserve.server.upstream.http.throttle import OverLimit, Place, Rates, Throttle
from deltaserve.server.upstream.pool.breaker import FAILURES
from deltaserve.server.upstream.pool.session import Session
from tests.server.upstream.pool.boxes import PARAMS, StubBox, pool_of

pytestmark = pytest.mark.anyio
GONE = UpstreamUnreachable("It is gone.")
LONG = list(range(200))


def refusal(status: int) -> Refusal:
    return Refusal("No.", http_status=status, largest_k=None, understood_k=None)


async def call(session: Session, ids: list[int] | None = None) -> StubBox:
    """The box that takes it."""
    async with session.draft(ids or [1, 2, 3], PARAMS) as draft:
        return draft.box  # type: ignore[attr-defined,no-any-return]


async def test_an_answer_stays_where_its_prefix_is_cached() -> None:
    boxes = [StubBox() for _ in range(3)]
    pool = pool_of(*boxes)
    for _ in range(6):
        session = pool.session()
        first = await call(session)
        assert [await call(session, [1, 2, 3, *range(n)]) for n in range(5)] == [first] * 5
        session.close()


async def test_answers_are_spread_by_how_many_go_on_at_each() -> None:
    boxes = [StubBox() for _ in range(3)]
    pool = pool_of(*boxes)
    sessions = [pool.session() for _ in range(9)]
    for session in sessions:
        await call(session)
    assert [box.calls for box in boxes] == [3, 3, 3]
    ended = [session for session in sessions if await call(session) is boxes[1]]
    for session in ended:
        session.close()
    assert {id(await call(pool.session())) for _ in range(2)} == {id(boxes[1])}


async def test_one_with_more_slots_gets_more_answers() -> None:
    small, large = StubBox(slots=2), StubBox(slots=6)
    pool = pool_of(small, large)
    for _ in range(8):
        await call(pool.session())
    assert (small.calls, large.calls) == (2, 6)


async def test_prompts_that_begin_alike_go_where_the_beginning_is_cached_up_to_a_point() -> None:
    boxes = [StubBox() for _ in range(2)]
    pool = pool_of(*boxes)
    first = await call(pool.session(), LONG)
    assert await call(pool.session(), [*LONG[:100], 7]) is first
    assert await call(pool.session(), [9, *LONG]) is not first
    for _ in range(10):
        await call(pool.session(), LONG)
    assert abs(boxes[0].calls - boxes[1].calls) <= 4


async def test_a_call_that_cannot_be_opened_is_opened_elsewhere() -> None:
    bad, good = StubBox(faults=[GONE] * 9), StubBox()
    pool = pool_of(bad, good)
    for _ in range(4):
        assert await call(pool.session()) is good


async def test_an_answer_that_breaks_off_goes_on_elsewhere_and_stays_there() -> None:
    boxes = [StubBox(), StubBox()]
    pool = pool_of(*boxes)
    session = pool.session()
    with pytest.raises(UpstreamUnreachable):
        async with session.draft([1], PARAMS) as draft:
            broken = draft.box  # type: ignore[attr-defined]
            broken.doubtful = True  # as a lost connection leaves it
            raise GONE
    other = boxes[broken is boxes[0]]
    assert await call(session) is other
    broken.doubtful = False
    assert await call(session) is other


async def test_one_in_doubt_or_trouble_is_not_asked_while_another_can_be() -> None:
    doubtful, troubled, good = StubBox(doubtful=True), StubBox(trouble="It is another model."), StubBox()
    pool = pool_of(doubtful, troubled, good)
    for _ in range(5):
        assert await call(pool.session()) is good
    assert [member["state"] for member in pool.members()] == ["ejected", "ejected", "serving"]
    assert pool.problem() is None


async def test_where_all_are_in_trouble_the_pool_says_why_and_one_is_asked_all_the_same() -> None:
    pool = pool_of(StubBox(trouble="It is away.", faults=[GONE]))
    assert pool.problem() == "It is away."
    with pytest.raises(UpstreamUnreachable):
        await call(pool.session())


async def test_a_pool_that_is_away_is_tried_a_few_times_and_no_more() -> None:
    boxes = [StubBox(faults=[GONE] * 99), StubBox(faults=[GONE] * 99)]
    with pytest.raises(UpstreamUnreachable):
        await call(pool_of(*boxes).session())
    assert sum(box.calls for box in boxes) == 6


async def test_a_single_upstream_is_not_asked_again_for_the_same_call() -> None:
    box = StubBox(faults=[GONE] * 99)
    with pytest.raises(UpstreamUnreachable):
        await call(pool_of(box).session())
    assert box.calls == 1


@pytest.mark.parametrize("fault", [UpstreamRefused("A bad request."), refusal(400), refusal(422)])
async def test_what_is_the_request_s_own_fault_is_not_asked_elsewhere(fault: UpstreamError) -> None:
    boxes = [StubBox(faults=[fault]), StubBox(faults=[fault])]
    with pytest.raises(UpstreamRefused):
        await call(pool_of(*boxes).session())
    assert sum(box.calls for box in boxes) == 1


@pytest.mark.parametrize("fault", [refusal(401), refusal(404), UpstreamTimeout("Late."), MalformedTopK("Odd.")])
async def test_what_may_be_one_upstream_s_own_fault_is_asked_elsewhere(fault: UpstreamError) -> None:
    boxes = [StubBox(faults=[fault]), StubBox()]
    pool = pool_of(*boxes)
    for _ in range(2):
        assert await call(pool.session()) is boxes[1]


async def test_one_that_fails_again_and_again_is_ejected_and_tried_by_one_call() -> None:
    bad, good = StubBox(faults=[GONE] * FAILURES), StubBox()
    pool = pool_of(bad, good)
    while bad.faults:
        await call(pool.session())
    calls = bad.calls
    for _ in range(5):
        assert await call(pool.session()) is good
    assert bad.calls == calls
    assert pool.members()[0]["state"] == "ejected"
    await asyncio.sleep(0.55)
    async with AsyncExitStack() as stack:  # nobody has left yet: the one that has none is chosen
        for _ in range(3):
            await stack.enter_async_context(pool.session().draft([1], PARAMS))
    assert bad.calls > calls
    assert pool.members()[0]["state"] == "serving"


async def test_a_single_upstream_that_was_ejected_is_waited_for() -> None:
    box = StubBox(faults=[GONE] * FAILURES)
    pool = pool_of(box)
    for _ in range(FAILURES):
        with pytest.raises(UpstreamUnreachable):
            await call(pool.session())
    assert await call(pool.session()) is box
    impatient = pool_of(box, patience_s=0.1)
    box.faults = [GONE] * FAILURES
    for _ in range(FAILURES):
        with pytest.raises(UpstreamUnreachable):
            await call(impatient.session())
    with pytest.raises(UpstreamBusy) as caught:
        await call(impatient.session())
    assert caught.value.retry_after_s is not None


async def test_an_upstream_that_breaks_off_every_answer_is_ejected_although_it_opens_them() -> None:
    box = StubBox()
    pool = pool_of(box)
    for _ in range(FAILURES):
        with pytest.raises(UpstreamUnreachable):
            async with pool.session().draft([1], PARAMS):
                raise GONE
    assert pool.problem() is not None


async def test_errors_that_are_not_the_upstream_s_are_not_held_against_it() -> None:
    box = StubBox()
    pool = pool_of(box)
    for _ in range(2 * FAILURES):
        with pytest.raises(OffsetUnavailable):
            async with pool.session().draft([1], PARAMS):
                raise OffsetUnavailable("The engine is gone.")
    assert pool.problem() is None


async def paused(box: StubBox, seconds: float) -> None:
    place = await box.throttle.enter()
    place.refused(seconds)
    place.leave()


async def test_one_that_wants_a_pause_is_left_alone_while_another_does_not() -> None:
    boxes = [StubBox(), StubBox()]
    pool = pool_of(*boxes)
    session = pool.session()
    held = await call(session)
    await paused(held, 30.0)
    assert await call(session) is not held
    assert await call(pool.session()) is not held


async def test_a_call_that_is_refused_is_made_elsewhere_at_once() -> None:
    busy, free = StubBox(refuses_s=60.0), StubBox()
    pool = pool_of(busy, free)
    for _ in range(4):
        assert await call(pool.session()) is free
    assert busy.calls == 1


async def test_where_all_refuse_the_first_one_that_can_be_asked_again_is_waited_for() -> None:
    boxes = [StubBox(refuses_s=0.3, refusals=1), StubBox(refuses_s=30.0, refusals=1)]
    assert await call(pool_of(*boxes).session()) is boxes[0]
    assert [box.calls for box in boxes] == [2, 1]


async def test_where_all_want_a_pause_that_is_too_long_it_is_told() -> None:
    boxes = [StubBox(), StubBox()]
    for box in boxes:
        await paused(box, 60.0)
    with pytest.raises(UpstreamBusy) as caught:
        await call(pool_of(*boxes).session())
    assert caught.value.retry_after_s == pytest.approx(60.0, abs=1.0)


async def test_an_upstream_without_a_free_connection_does_not_make_the_pool_spin() -> None:
    boxes = [StubBox(faults=[OverLimit("None is free.")] * 99) for _ in range(2)]
    with pytest.raises(OverLimit):
        await asyncio.wait_for(call(pool_of(*boxes).session()), 5.0)
    assert sum(box.calls for box in boxes) <= 6


async def test_costs_are_kept_by_answer_and_by_member() -> None:
    boxes = [StubBox(), StubBox()]
    pool = pool_of(*boxes)
    session = pool.session()
    for _ in range(2):
        await call(session)
    await session.block([1, 2], [3], PARAMS)
    other = pool.session()
    await call(other)
    (name,) = session.costs
    assert session.costs[name] == Cost(3, 3 + 3 + 7, 3 + 3 + 2)
    assert list(other.costs.values()) == [Cost(1, 3, 3)]
    shown = {row["name"]: (row["calls"], row["prompt_tokens"], row["completion_tokens"]) for row in pool.members()}
    assert sorted(shown.values()) == [(1, 3, 3), (3, 13, 8)]


class Names:
    most, goes_on = 7, True

    async def named(self, prefixes: list[list[int]], ids: Ids) -> list[Floats]:
        return [np.zeros(len(ids)) for _ in prefixes]

    async def ahead(self, prefix: list[int], token_id: int, ids: Ids, length: int) -> Ahead:
        return Ahead(np.zeros(len(ids)), [], 2 * length)


async def test_ids_are_asked_for_by_name_where_that_is_possible_and_billed() -> None:
    pool = pool_of(StubBox(), StubBox())
    pool._members[1].names = Names()  # type: ignore[assignment]
    session = pool.session()
    told = await session.named([[1, 2, 3], [1, 2, 3, 4]], np.array([5, 6]))
    assert (len(told), session.most, pool.names_ids) == (2, 7, False)
    assert session.costs == {"box1": Cost(1, 7, 2)}
    await session.ahead([1, 2, 3], 4, np.array([5, 6]), 3)
    assert session.costs == {"box1": Cost(2, 7 + 7, 2 + 6)} and not session.goes_on
    assert pool.members()[0]["failures"] == 0
    pool._members[0].names = Names()  # type: ignore[assignment]
    assert pool.names_ids


class FailingNames(Names):
    async def named(self, prefixes: list[list[int]], ids: Ids) -> list[Floats]:
        raise GONE


async def test_a_call_of_names_that_fails_is_no_fault_of_the_draft_beside_it() -> None:
    pool = pool_of(StubBox())
    (member,) = pool._members
    member.names = FailingNames()  # type: ignore[assignment]
    session = pool.session()
    with pytest.raises(UpstreamUnreachable):
        async with session.draft([1, 2, 3], PARAMS):
            await session.named([[1, 2, 3]], np.array([5]))
    assert member.failures == 1  # of the call itself
    with pytest.raises(UpstreamUnreachable):
        async with session.draft([1, 2, 3], PARAMS):
            raise UpstreamUnreachable("It broke off.")
    assert member.failures == 2


async def test_a_pause_that_no_call_waits_for_is_a_problem_that_says_when_it_is_over() -> None:
    one, other = StubBox(), StubBox()
    pool = pool_of(one, other, patience_s=5.0)
    await paused(one, 90.0)
    assert pool.problem() is None  # the other one answers
    await paused(other, 60.0)
    assert "expected back in 60 s" in str(pool.problem())
    soon = StubBox()
    await paused(soon, 4.0)
    assert pool_of(one, soon, patience_s=5.0).problem() is None  # calls wait for it


async def test_a_call_that_was_never_answered_costs_nothing() -> None:
    session = pool_of(StubBox(faults=[GONE]), StubBox(faults=[GONE])).session()
    await call(session)
    assert [cost.calls for cost in session.costs.values()] == [1]


async def test_a_ping_fails_where_all_fail_and_spares_those_that_want_a_pause() -> None:
    one, other = StubBox(ping_fault=GONE), StubBox()
    await pool_of(one, other).ping()
    other.ping_fault = GONE
    with pytest.raises(UpstreamUnreachable):
        await pool_of(one, other).ping()
    await paused(other, 30.0)
    await pool_of(one, other).ping()
    assert (one.pinged, other.pinged) == (3, 2)


async def test_what_a_pool_can_is_what_all_members_can() -> None:
    pool = pool_of(StubBox(slots=2), StubBox(slots=3))
    assert (pool.capabilities.slots, pool.scores_blocks) == (5, True)
    pool._members[1].scorer = None
    assert not pool.scores_blocks


async def test_a_member_that_lists_fewer_alternatives_since_it_was_restarted_is_kept_out() -> None:
    boxes = [StubBox(), StubBox()]
    pool = pool_of(*boxes)
    for member in pool._members:
        member.held_to_k = 5
    boxes[0].k = 3
    for _ in range(3):
        assert await call(pool.session()) is boxes[1]
    assert pool.members()[0]["state"] == "kept out"
    assert "3 alternatives" in pool.members()[0]["fault"]


async def test_where_all_list_fewer_alternatives_than_they_did_none_is_asked_and_the_pool_says_why() -> None:
    boxes = [StubBox(), StubBox()]
    pool = pool_of(*boxes)
    for member, box in zip(pool._members, boxes, strict=True):
        member.held_to_k, box.k = 5, 3
    with pytest.raises(UpstreamChanged, match="3 alternatives"):
        await call(pool.session())
    assert sum(box.calls for box in boxes) == 0
    assert pool.capabilities.k == 3 and "kept out" in str(pool.problem())


async def test_a_call_that_has_waited_in_one_queue_does_not_wait_in_all_the_others() -> None:
    boxes = [StubBox(throttle=Throttle(Rates(at_once=1, patience_s=0.2))) for _ in range(4)]
    pool = pool_of(*boxes, patience_s=0.2)
    places = [await box.throttle.enter() for box in boxes]
    waits = [0]

    async def counted(tokens: int = 0, *, again: bool = False) -> Place:
        waits[0] += 1
        return await Throttle.enter(boxes[0].throttle, tokens, again=again)

    for box in boxes:
        box.throttle.enter = counted  # type: ignore[method-assign]
    with pytest.raises(OverLimit):
        await call(pool.session())
    assert waits[0] == 1
    for place in places:
        place.leave()


async def test_the_only_upstream_is_not_left_alone_for_lists_that_are_wrong() -> None:
    pool = pool_of(StubBox())
    for _ in range(2 * FAILURES):
        with pytest.raises(MalformedTopK):
            async with pool.session().draft([1], PARAMS):
                raise MalformedTopK("Odd.")
    assert pool.problem() is None and pool.members()[0]["failures"] == 2 * FAILURES
    box = StubBox(faults=[GONE] * FAILURES + [MalformedTopK("Odd.")])
    pool = pool_of(box)
    while box.faults:  # the last one is the single call that decides whether it is there again
        with pytest.raises(UpstreamError):
            await call(pool.session())
    assert pool.problem() is None
