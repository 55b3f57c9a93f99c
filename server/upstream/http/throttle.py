"""When a call may go out to one upstream: within the limits that the operator knows, and the pauses it asks for.

Calls wait in the order in which they came. After a pause the upstream is not stormed: one call goes out, then two more
for each one that was taken, and one more every quarter of a second.
"""

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Final

from deltaserve.errors import UpstreamBusy

_WINDOW_S: Final = 60.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.25, 8.0  # where the upstream is busy and does not say for how long
_SHORTEST_PAUSE_S: Final = 0.05
_SPACING_S: Final = 0.25


class OverLimit(UpstreamBusy):
    """UpstreamBusy of a call that never went out: it would have had to wait too long, or there was no connection."""


@dataclass(frozen=True, slots=True)
class Rates:
    """What one upstream may be asked by this process; None: no limit."""

    at_once: int | None = None  # calls whose answers have not ended
    calls_per_minute: int | None = None
    tokens_per_minute: int | None = None  # of prompts, and generated
    most_waiting: int = 1024
    patience_s: float = 2.0  # how long one call may wait


class Window:
    """Amounts of the last minute, whose sum stays within a limit."""

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._added: deque[tuple[float, int]] = deque()
        self._sum = 0

    def add(self, now: float, amount: int) -> None:
        if self._limit is not None and amount:
            self._added.append((now, amount))
            self._sum += amount

    def wait_s(self, now: float, amount: int) -> float:
        """Until so much more may be added; 0: now. More than the whole limit may go where nothing else did."""
        if self._limit is None:
            return 0.0
        while self._added and self._added[0][0] <= now - _WINDOW_S:
            self._sum -= self._added.popleft()[1]
        left = self._sum
        if left + amount <= self._limit or not left:
            return 0.0
        for at, added in self._added:
            left -= added
            if left + amount <= self._limit or not left:
                return at + _WINDOW_S - now
        return 0.0


@dataclass(slots=True)
class Place:
    """A call that may go out. It must be left, once."""

    throttle: "Throttle"
    pauses: int  # that there had been when it was given

    def taken(self) -> None:
        """The upstream answers it."""
        self.throttle.opened(self.pauses)

    def refused(self, pause_s: float | None) -> None:
        """The upstream is busy, and said for how long, or did not."""
        self.throttle.pause(pause_s, self.pauses)

    def leave(self, generated: int = 0) -> None:
        """Its answer has ended after so many tokens."""
        self.throttle.left(generated)


@dataclass(slots=True)
class _Waiting:
    tokens: int
    turn: "asyncio.Future[None]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    granted: bool = False


class Throttle:
    """One for each upstream, whoever calls it."""

    def __init__(self, rates: Rates | None = None) -> None:
        self.rates = rates or Rates()
        self.refusals = 0  # answers that said: busy
        self._calls, self._tokens = Window(self.rates.calls_per_minute), Window(self.rates.tokens_per_minute)
        self._running = 0
        self._closed_until = 0.0
        self._pauses = 0
        self._in_a_row = 0  # pauses since a call was taken
        self._allowed: int | None = None  # calls that may go out now, after a pause; None: as many as want to
        self._next_allowed = 0.0
        self._queue: deque[_Waiting] = deque()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def pause_s(self) -> float:
        """Seconds until the upstream wants to hear of us again; 0: now."""
        return max(self._closed_until - asyncio.get_running_loop().time(), 0.0)

    @property
    def queued(self) -> int:
        """Calls that wait, or would."""
        return len(self._queue) + self._full

    def wait_s(self, tokens: int = 0) -> float:
        """Seconds until such a call could go, as far as is known: others may have to end first."""
        return self._known_wait_s(asyncio.get_running_loop().time(), tokens)

    async def enter(self, tokens: int = 0, *, again: bool = False) -> Place:
        """Waits for its turn; `again`: a call that was refused, which goes first. Raises OverLimit after too long."""
        if self._queue or not self._free(tokens):
            await self._turn(tokens, again)
        else:
            self._grant(tokens)
        return Place(self, self._pauses)

    async def quiet(self) -> None:
        """Until the upstream wants to hear of us again: for calls that are in no limit. Raises OverLimit."""
        self._refuse_long(self.pause_s)
        await asyncio.sleep(self.pause_s)

    # what a place says

    def opened(self, pauses: int) -> None:
        if self._allowed is not None and pauses == self._pauses:
            self._in_a_row = 0
            self._allowed += 2
            self._release()

    def pause(self, seconds: float | None, pauses: int) -> None:
        """Of calls that went out together one begins the pause; the others may make it longer."""
        self.refusals += 1
        if pauses == self._pauses:
            self._pauses, self._in_a_row = self._pauses + 1, self._in_a_row + 1
        grown = 2.0 ** min(self._in_a_row - 1, 16)
        if seconds is None:
            seconds = min(_FIRST_PAUSE_S * grown, _LONGEST_PAUSE_S)
        else:
            seconds = max(seconds, min(_SHORTEST_PAUSE_S * grown, _LONGEST_PAUSE_S))
        self._closed_until = max(self._closed_until, asyncio.get_running_loop().time() + seconds)
        self._allowed, self._next_allowed = 1, self._closed_until + _SPACING_S

    def left(self, generated: int) -> None:
        self._running -= 1
        self._tokens.add(asyncio.get_running_loop().time(), generated)
        self._release()

    # turns

    async def _turn(self, tokens: int, again: bool) -> None:
        self._refuse_long(self._known_wait_s(asyncio.get_running_loop().time(), tokens))
        if len(self._queue) >= self.rates.most_waiting:
            raise OverLimit("Too many calls wait for the upstream.", retry_after_s=self.rates.patience_s)
        waiting = _Waiting(tokens)
        (self._queue.appendleft if again else self._queue.append)(waiting)
        self._release()
        try:
            async with asyncio.timeout(self.rates.patience_s):
                await waiting.turn
        except BaseException as error:
            self._give_up(waiting)
            if isinstance(error, TimeoutError):
                raise OverLimit(
                    "The upstream is asked as much as its limits allow.", retry_after_s=max(self.pause_s, 1.0)
                ) from None
            raise

    def _give_up(self, waiting: _Waiting) -> None:
        """Whoever waited has gone; the turn that it may have got all the same goes to the next one."""
        if waiting.granted:
            self.left(0)
        elif waiting in self._queue:
            self._queue.remove(waiting)
            self._release()

    def _refuse_long(self, wait_s: float) -> None:
        if wait_s > self.rates.patience_s:
            raise OverLimit("The upstream asks not to be called for a while.", retry_after_s=wait_s)

    def _release(self) -> None:
        while self._queue and self._free(self._queue[0].tokens):
            waiting = self._queue.popleft()
            if not waiting.turn.done():
                self._grant(waiting.tokens)
                waiting.granted = True
                waiting.turn.set_result(None)
        if self._queue:
            self._wake_later()
        elif self._allowed and not self._in_a_row:
            self._allowed = None  # all that waited have gone out, and calls are taken again

    def _wake_later(self) -> None:
        """When time alone lets the next one go."""
        loop = asyncio.get_running_loop()
        wait = self._known_wait_s(loop.time(), self._queue[0].tokens)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_later(wait, self._release) if wait > 0 else None

    def _grant(self, tokens: int) -> None:
        now = asyncio.get_running_loop().time()
        self._running += 1
        self._calls.add(now, 1)
        self._tokens.add(now, tokens)
        if self._allowed is not None:
            self._allowed = max(self._allowed - 1, 0)
            self._next_allowed = now + _SPACING_S

    @property
    def _full(self) -> bool:
        return self.rates.at_once is not None and self._running >= self.rates.at_once

    def _free(self, tokens: int) -> bool:
        return not self._full and self._known_wait_s(asyncio.get_running_loop().time(), tokens) == 0.0

    def _known_wait_s(self, now: float, tokens: int) -> float:
        slow = self._next_allowed - now if self._allowed == 0 else 0.0
        closed = self._closed_until - now
        return max(closed, slow, self._calls.wait_s(now, 1), self._tokens.wait_s(now, tokens), 0.0)
