"""A bounded number of choices run at a time, and a bounded number wait for a place."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol

from deltaserve.errors import BadRequest, RateLimited
from deltaserve.server.serving.admission.accounts import Account, Accounts, Clock
from deltaserve.server.serving.admission.clients import Client, Standing
from deltaserve.server.serving.admission.turns import Turn, Turns


class Reservation(Protocol):
    """One request's right to so many places."""

    @property
    def standing(self) -> Standing:
        """What is left of the client's limits now that its prompts are counted."""

    def place(self, timeout_s: float | None) -> AbstractAsyncContextManager[None]:
        """A place among the running choices, when it is the client's turn. Raises RateLimited after `timeout_s`."""

    def spent(self, tokens: int) -> None:
        """So many tokens were generated."""


class Places(Protocol):
    """The places and the accounts of all clients, over all processes that answer requests."""

    async def request(self, client: Client) -> Standing:
        """Counts a request; `wait_s` says where it is one too many."""

    async def check_room(self, client: Client) -> None:
        """Raises RateLimited where one choice more of the client would be refused, as far as that is known."""

    def reserved(self, client: Client, count: int, prompt_tokens: int) -> AbstractAsyncContextManager[Reservation]:
        """Room for `count` choices, running or waiting. Raises RateLimited; BadRequest when there can never be."""


@dataclass(eq=False, slots=True)
class LocalReservation:
    """The `Reservation` of one event loop."""

    turns: Turns
    account: Account
    count: int
    standing: Standing
    begun: bool = False  # a choice has had a place
    refusal: RateLimited | None = None  # others' requests went first
    _waiting: list[Turn] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.account.client.name

    @property
    def idle(self) -> bool:
        """All of it waits."""
        return not self.begun

    @asynccontextmanager
    async def place(self, timeout_s: float | None) -> AsyncIterator[None]:
        await self._turn(timeout_s)
        self.begun = True
        try:
            yield
        finally:
            self.turns.leave(self.name)

    def spent(self, tokens: int) -> None:
        self.account.spend(tokens)

    def refuse(self, error: RateLimited) -> None:
        """It waits no longer."""
        self.refusal = error
        for turn in self._waiting:
            turn.cancel()

    async def _turn(self, timeout_s: float | None) -> None:
        if self.refusal is not None:
            raise self.refusal
        turn = self.turns.ask(self.name)
        self._waiting.append(turn)
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.wait({turn})
        except BaseException as error:
            self.turns.give_up(self.name, turn)
            if isinstance(error, TimeoutError):
                raise RateLimited(f"The server is busy: no place became free in {timeout_s:g} s.") from None
            raise
        finally:
            self._waiting.remove(turn)
        if self.refusal is not None:
            self.turns.give_up(self.name, turn)
            raise self.refusal


class LocalPlaces:
    """The `Places` of one event loop: at most `running` at a time, at most `waiting` more."""

    def __init__(self, running: int, waiting: int, now: Clock = time.monotonic) -> None:
        self._waiting = waiting
        self._reserved = 0
        self._reservations: dict[LocalReservation, None] = {}  # in the order in which they came
        self._accounts = Accounts(now)
        self.allow(running)

    def allow(self, running: int) -> None:
        """So many at a time; before the first choice comes."""
        self._turns = Turns(running)
        self._capacity = running + self._waiting

    async def check_room(self, client: Client) -> None:
        if self._capacity:  # else the engine is not there yet
            self._displaced(client.name, 1)

    async def request(self, client: Client) -> Standing:
        return self._accounts.of(client).request()

    @asynccontextmanager
    async def reserved(self, client: Client, count: int, prompt_tokens: int) -> AsyncIterator[LocalReservation]:
        reservation = self._reserve(client, count, prompt_tokens)
        try:
            yield reservation
        finally:
            self._give_back(reservation)
            reservation.account.leave(count)

    def _reserve(self, client: Client, count: int, prompt_tokens: int) -> LocalReservation:
        if count > self._capacity:
            raise BadRequest(f"The request asks for {count} choices; this server takes {self._capacity} at a time.")
        displaced = self._displaced(client.name, count)
        account = self._accounts.of(client)
        account.enter(count, prompt_tokens)
        for other in displaced:
            self._give_back(other)
            other.refuse(RateLimited("The server is busy: the requests of others, who have fewer waiting, go first."))
        reservation = LocalReservation(self._turns, account, count, account.standing())
        self._reservations[reservation] = None
        self._reserved += count
        return reservation

    def _give_back(self, reservation: LocalReservation) -> None:
        if reservation in self._reservations:  # else it was displaced
            del self._reservations[reservation]
            self._reserved -= reservation.count

    def _displaced(self, name: str, count: int) -> list[LocalReservation]:
        """The newest waiting requests of the clients that have most waiting, as far as `count` choices need their room.

        A client with no fewer waiting than they then have is refused itself. Raises RateLimited.
        """
        displaced: list[LocalReservation] = []
        missing = self._reserved + count - self._capacity
        waiting = self._waiting_by_name() if missing > 0 else {}
        own = sum(one.count for one in waiting.get(name, ())) + count
        while missing > 0:
            longest = max(waiting.values(), key=_choices, default=[])
            if _choices(longest) <= own:
                raise RateLimited("The server is busy: too many requests are waiting.")
            displaced.append(longest.pop())
            missing -= displaced[-1].count
        return displaced

    def _waiting_by_name(self) -> dict[str, list[LocalReservation]]:
        waiting: dict[str, list[LocalReservation]] = {}
        for one in self._reservations:
            if one.idle:
                waiting.setdefault(one.name, []).append(one)
        return waiting


def _choices(reservations: list[LocalReservation]) -> int:
    return sum(one.count for one in reservations)
