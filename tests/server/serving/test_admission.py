"""Limits of keys, and whose turn it is. The clock is the test's; nothing waits for time."""

import asyncio

import pytest

from deltaserve.errors import BadRequest, KeyLimited, RateLimited
from deltaserve.server.serving.admission.allowance import Allowance
from deltaserve.server.serving.admission.clients import ANYBODY, Client, Left
from deltaserve.server.serving.admission.places import LocalPlaces, LocalReservation

pytestmark = pytest.mark.anyio


class Clock:
    def __init__(self) -> None:
        self.s = 0.0

    def __call__(self) -> float:
        return self.s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_an_allowance_is_there_at_once_and_comes_back_evenly(clock: Clock) -> None:
    allowance = Allowance(6, clock)
    assert [allowance.take() for _ in range(7)] == [None] * 6 + [10.0]
    clock.s = 5
    assert allowance.take() == 5.0
    clock.s = 25
    assert (allowance.left(), allowance.take(), allowance.take(2)) == (Left(6, 2, 35.0), None, pytest.approx(5))
    clock.s = 10_000
    assert allowance.left() == Left(6, 6, 0.0)


def test_what_was_used_beyond_the_allowance_is_owed(clock: Clock) -> None:
    allowance = Allowance(60, clock)
    allowance.charge(90)
    assert allowance.left() == Left(60, 0, 90.0)
    assert allowance.take() == 31.0
    clock.s = 31
    assert allowance.take() is None


def test_more_than_the_whole_allowance_goes_where_nothing_else_did(clock: Clock) -> None:
    allowance = Allowance(60, clock)
    assert allowance.take(1) is None and allowance.take(600) == 1.0
    clock.s = 1
    assert allowance.take(600) is None
    assert allowance.take() == 541.0


def test_another_limit_forgets_nothing_that_was_used(clock: Clock) -> None:
    allowance = Allowance(60, clock)
    allowance.take(50)
    allowance.change(100)
    assert allowance.left().remaining == 50
    allowance.change(40)
    assert allowance.left().remaining == 0 and allowance.take() == pytest.approx(11 * 60 / 40)


async def test_each_limit_of_a_key_is_its_own_and_a_reloaded_one_holds_at_once(clock: Clock) -> None:
    places = LocalPlaces(8, 8, clock)
    alice = Client("alice", streams=3, tokens_per_minute=60)
    assert (await places.request(alice)).requests is None
    with pytest.raises(BadRequest, match="this API key takes 3 at a time"):
        await places.reserved(alice, 4, 1).__aenter__()
    async with places.reserved(alice, 2, 20) as two:
        with pytest.raises(KeyLimited, match="2 answers under way, of at most 3"):
            await places.reserved(alice, 2, 1).__aenter__()
        async with places.reserved(Client("bob"), 5, 1), places.reserved(alice, 1, 1):
            two.spent(100)
    with pytest.raises(KeyLimited, match="60 tokens a minute") as owed:
        await places.reserved(alice, 1, 0).__aenter__()
    assert owed.value.retry_after_s == 62.0
    async with places.reserved(Client("alice", streams=3, tokens_per_minute=600), 1, 1) as one:
        assert one.standing.tokens == Left(600, 478, 12.2)
    async with places.reserved(Client("alice"), 9, 10**9) as nine:
        assert nine.standing.tokens is None


class Crowd:
    """Requests that keep their place until they are told to leave it."""

    def __init__(self, places: LocalPlaces) -> None:
        self.places = places
        self.running: list[str] = []
        self.refused: list[str] = []
        self._tasks: dict[str, tuple[asyncio.Task[None], asyncio.Event]] = {}

    async def comes(self, *labels: str, choices: int = 1) -> None:
        """A label is the client's name and a number."""
        for label in labels:
            leave = asyncio.Event()
            self._tasks[label] = asyncio.create_task(self._stay(label, choices, leave)), leave
            await settled()

    async def leaves(self, label: str) -> None:
        self._tasks[label][1].set()
        await settled()

    async def breaks_off(self, label: str) -> None:
        self._tasks[label][0].cancel()
        await settled()

    async def _stay(self, label: str, choices: int, leave: asyncio.Event) -> None:
        try:
            async with self.places.reserved(Client(label.rstrip("0123456789")), choices, 0) as one, one.place(None):
                self.running.append(label)
                await leave.wait()
                self.running.remove(label)
        except RateLimited:
            self.refused.append(label)


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_free_places_go_to_the_clients_with_the_fewest_in_turn() -> None:
    crowd = Crowd(LocalPlaces(2, 100))
    await crowd.comes(*(f"heavy{number}" for number in range(8)), "light0", "other0", "other1")
    assert crowd.running == ["heavy0", "heavy1"]
    await crowd.leaves("heavy0")
    assert crowd.running == ["heavy1", "light0"]  # the first of those that have none
    await crowd.leaves("light0")
    assert crowd.running == ["heavy1", "other0"]
    await crowd.leaves("other0")
    assert crowd.running == ["heavy1", "other1"]
    await crowd.leaves("other1")
    assert crowd.running == ["heavy1", "heavy2"]  # nobody else waits: no place stands empty
    await crowd.leaves("heavy1")
    assert crowd.running == ["heavy2", "heavy3"]  # within a client, first come first served


async def test_clients_that_always_wait_have_equally_many_places() -> None:
    crowd = Crowd(LocalPlaces(4, 100))
    await crowd.comes(*(f"a{number}" for number in range(12)), *(f"b{number}" for number in range(12)))
    for _ in range(8):
        await crowd.leaves(crowd.running[0])
    assert sorted(label[0] for label in crowd.running) == ["a", "a", "b", "b"]


async def test_a_client_that_waits_has_its_turn_though_others_come_and_go() -> None:
    crowd = Crowd(LocalPlaces(1, 100))
    await crowd.comes("heavy0", "heavy1", "b0")
    await crowd.leaves("heavy0")
    for now, following in (("b0", "c0"), ("heavy1", "b1"), ("c0", "heavy2")):
        await crowd.comes(following)  # of a client that has nothing else: its last answer has ended
        assert crowd.running == [now]
        await crowd.leaves(now)
    assert crowd.running == ["b1"]


async def test_who_waits_and_goes_leaves_its_turn_to_the_next() -> None:
    crowd = Crowd(LocalPlaces(1, 100))
    await crowd.comes("a0", "b0", "a1")
    await crowd.breaks_off("b0")
    await crowd.leaves("a0")
    assert crowd.running == ["a1"]
    await crowd.leaves("a1")
    await crowd.comes("c0")
    assert crowd.running == ["c0"]


async def test_a_place_given_to_one_who_is_going_is_not_lost() -> None:
    places = LocalPlaces(1, 5)
    async with places.reserved(ANYBODY, 1, 0) as one, places.reserved(ANYBODY, 1, 0) as other:
        first = one.place(None)
        await first.__aenter__()
        waiting = asyncio.create_task(other.place(None).__aenter__())
        await settled()
        waiting.cancel()  # and before it hears of that, the place is free
        await first.__aexit__(None, None, None)
        await asyncio.gather(waiting, return_exceptions=True)
        async with asyncio.timeout(10), one.place(None):
            pass


async def test_a_full_queue_takes_the_newest_request_from_the_client_that_has_most_waiting() -> None:
    crowd = Crowd(LocalPlaces(1, 3))
    await crowd.comes("heavy0", "heavy1", "heavy2", "heavy3", "heavy4")
    assert crowd.refused == ["heavy4"]  # alone it has the whole queue, and no more
    with pytest.raises(RateLimited):
        await crowd.places.check_room(Client("heavy"))
    await crowd.places.check_room(Client("light"))
    await crowd.comes("light0")
    assert crowd.refused == ["heavy4", "heavy3"]
    await crowd.comes("light1")
    assert crowd.refused == ["heavy4", "heavy3", "light1"]  # they have as many each as it would have
    await crowd.comes("third0", "third1", "fourth0")
    assert crowd.refused[3:] == ["heavy2", "third1", "fourth0"]
    for label in ("heavy0", "light0", "third0", "heavy1"):
        assert crowd.running == [label]
        await crowd.leaves(label)
    assert crowd.running == []


async def test_what_was_refused_gives_back_all_that_it_had() -> None:
    crowd = Crowd(LocalPlaces(1, 2))
    await crowd.comes("a0", "a1", "a2", "b0")
    for label in ("a0", "a1", "b0"):
        await crowd.leaves(label)
    assert crowd.refused == ["a2"]
    places = crowd.places
    async with places.reserved(ANYBODY, 3, 0) as all_of_it, all_of_it.place(1):
        assert isinstance(all_of_it, LocalReservation)


async def test_no_request_that_has_begun_is_refused_for_anothers_sake() -> None:
    places = LocalPlaces(1, 2)
    async with places.reserved(Client("a"), 3, 0) as three, three.place(None):
        with pytest.raises(RateLimited, match="too many requests are waiting"):
            await places.reserved(Client("b"), 1, 0).__aenter__()
