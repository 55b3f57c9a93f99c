"""Who may open a session: KV slots are reserved here, waiting is bounded and first come, first served."""

import asyncio
import threading
from collections import Counter, deque
from dataclasses import dataclass, field

from deltaserve.errors import OffsetUnavailable, RateLimited, Unavailable
from deltaserve.offset_models.engine.off_loop import tell

Need = Counter[str]  # slots by model key


@dataclass(slots=True, eq=False)
class _Waiter:
    need: Need
    loop: asyncio.AbstractEventLoop
    granted: asyncio.Future[None]
    holds: bool = field(default=False)


class Admission:
    """Reservations of slots, for any event loop and thread; `max_streams` bounds the sessions over all models."""

    def __init__(self, max_streams: int, max_waiting: int, retry_after_s: float) -> None:
        self._max_waiting = max_waiting
        self._retry_after_s = retry_after_s
        self._lock = threading.Lock()
        self._streams = max_streams
        self._slots: Counter[str] = Counter()
        self._totals: dict[str, int] = {}
        self._waiting: deque[_Waiter] = deque()
        self._closed: str | None = None

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def add_model(self, key: str, slots: int) -> None:
        with self._lock:
            self._slots[key] = self._totals[key] = slots
            self._grant()

    def remove_model(self, key: str) -> None:
        with self._lock:
            del self._slots[key], self._totals[key]

    async def acquire(self, need: Need, timeout_s: float) -> None:
        """Reserve a stream and its slots. Raises RateLimited when the queue is full, Unavailable after `timeout_s`."""
        waiter = self._take_or_wait(need)
        if waiter is None:
            return
        try:
            await asyncio.wait_for(waiter.granted, timeout_s)
        except TimeoutError:
            self._abandon(waiter)
            raise Unavailable(
                f"No place for another stream became free within {timeout_s:g} s.", retry_after_s=self._retry_after_s
            ) from None
        except asyncio.CancelledError:
            self._abandon(waiter)
            raise

    def release(self, need: Need, streams: int = 1) -> None:
        """Of sessions that were acquired together, one gives the stream back (`streams` 1) and each its own slots."""
        with self._lock:
            self._put_back(need, streams)
            self._grant()

    def close(self, reason: str) -> None:
        """Refuse everyone who waits and everyone who comes."""
        with self._lock:
            self._closed = reason
            while self._waiting:
                _wake(self._waiting.popleft(), OffsetUnavailable(reason))

    def _take_or_wait(self, need: Need) -> _Waiter | None:
        with self._lock:
            if self._closed is not None:
                raise OffsetUnavailable(self._closed)
            for key, n in need.items():
                if n > self._totals.get(key, 0):
                    raise OffsetUnavailable(
                        f"These offsets need {n} slots of a model that has {self._totals.get(key, 0)}."
                    )
            if not self._waiting and self._fits(need):
                self._take(need)
                return None
            if len(self._waiting) >= self._max_waiting:
                raise RateLimited(
                    "Too many streams are waiting for the offset engine.", retry_after_s=self._retry_after_s
                )
            loop = asyncio.get_running_loop()
            waiter = _Waiter(need, loop, loop.create_future())
            self._waiting.append(waiter)
            return waiter

    def _abandon(self, waiter: _Waiter) -> None:
        with self._lock:
            if waiter.holds:
                self._put_back(waiter.need)
            elif waiter in self._waiting:
                self._waiting.remove(waiter)
            self._grant()

    def _grant(self) -> None:
        while self._waiting and self._fits(self._waiting[0].need):
            waiter = self._waiting.popleft()
            self._take(waiter.need)
            waiter.holds = True
            if not _wake(waiter):
                self._put_back(waiter.need)

    def _fits(self, need: Need) -> bool:
        return self._streams > 0 and all(self._slots[key] >= n for key, n in need.items())

    def _take(self, need: Need) -> None:
        self._streams -= 1
        self._slots.subtract(need)

    def _put_back(self, need: Need, streams: int = 1) -> None:
        self._streams += streams
        for key, n in need.items():
            if key in self._totals:
                self._slots[key] += n


def _wake(waiter: _Waiter, error: Exception | None = None) -> bool:
    """Settle a waiter from any thread; False where its event loop is gone."""
    try:
        waiter.loop.call_soon_threadsafe(tell, waiter.granted, error)
    except RuntimeError:
        return False
    return True
