"""Is it still the black box that was probed? Asked after every lost connection, before anything else is.

A server that was restarted may serve other weights, or other log-probabilities, at the same address. Until a look says
that nothing has changed no call goes out; where something has, it is probed as at the start, in the background, and
calls fail meanwhile.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import structlog

from deltaserve.errors import (
    DeltaserveError,
    UncorrectableUpstream,
    UpstreamChanged,
    UpstreamError,
    UpstreamUnreachable,
)

_LOOKS: Final = 2  # that one call waits for: one that has begun already, and its own
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 5.0  # between looks at a server that does not answer


@dataclass(frozen=True, slots=True)
class Difference:
    """Why this is not what was seen; `other_weights`: no probing makes it the same black box."""

    sentence: str
    other_weights: bool = False


Look = Callable[[], Awaitable[Difference | None]]
Learn = Callable[[], Awaitable[Difference | None]]
Close = Callable[[], Awaitable[None]]


class Continuity:
    """`look` compares at little cost; `learn` probes anew and takes over what it learned, or says why it cannot."""

    def __init__(self, look: Look, learn: Learn, close: Close) -> None:
        self._look, self._learn, self._close = look, learn, close
        self.epoch = 0  # grows whenever other facts were learned: what was worded before does not fit any more
        self._losses = self._looked_at = 0  # connections lost, and how many of them the last look came after
        self._changed: str | None = None
        self._absent: str | None = None  # why the last look saw nothing
        self._looking: asyncio.Task[None] | None = None
        self._learning: asyncio.Task[None] | None = None
        self._settling: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def doubtful(self) -> bool:
        """Whether a connection was lost since the last look began that said something."""
        return self._losses != self._looked_at

    @property
    def problem(self) -> str | None:
        """Why calls fail now."""
        return self._sentence() if self._changed is not None else self._absent

    def lost(self) -> None:
        """A connection broke, or could not be made."""
        self._losses += 1
        if not self._closed and not _runs(self._settling):
            self._settling = asyncio.create_task(self._settle())

    def look_again(self) -> None:
        """Where something had changed, it may have been changed back."""
        if self._changed is not None:
            self._losses += 1

    async def settled(self) -> None:
        """Returns where it is the same black box, as a look says that began after every loss that is known now.

        What is lost while it waits is for those who come later: else nobody would ever be answered where connections
        are lost again and again. Raises UpstreamChanged, or what kept it from being looked at.
        """
        losses = self._losses
        for _ in range(_LOOKS):
            if self._looked_at >= losses or _runs(self._learning):
                break
            await self._looked()
        if self._changed is not None:
            raise UpstreamChanged(self._sentence())
        if self._looked_at < losses and not _runs(self._learning):
            raise UpstreamUnreachable("The connection to the upstream is lost again and again.")

    async def aclose(self) -> None:
        self._closed = True
        tasks = [task for task in (self._settling, self._looking, self._learning) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._close()

    def _sentence(self) -> str:
        return f"The black box is not the one that was probed: {self._changed}."

    async def _looked(self) -> None:
        """One look for all that wait; whoever leaves does not stop it."""
        looking = self._looking
        if looking is None or looking.done():
            self._looking = looking = asyncio.create_task(self._look_once())
            looking.add_done_callback(_heard)
        await asyncio.shield(looking)

    async def _look_once(self) -> None:
        losses = self._losses
        try:
            difference = await self._look()
        except BaseException as error:
            self._absent = error.message if isinstance(error, DeltaserveError) else None
            raise
        self._absent, self._looked_at = None, losses
        self._conclude(difference)
        if difference is not None and not difference.other_weights:
            self._learning = asyncio.create_task(self._learn_once())

    async def _learn_once(self) -> None:
        try:
            difference = await self._learn()
        except UncorrectableUpstream as error:
            difference = Difference(error.message.rstrip("."))
        except UpstreamError:
            self.lost()  # it is away again: the next look decides
            return
        if difference is None:
            self.epoch += 1
        self._conclude(difference)

    def _conclude(self, difference: Difference | None) -> None:
        self._changed = difference.sentence if difference is not None else None
        log = structlog.get_logger(__name__)
        if difference is None:
            log.info("upstream_known")
        else:
            log.warning("upstream_changed", reason=difference.sentence)

    async def _settle(self) -> None:
        """Looks without being asked, so that readiness follows; ends with what a look says."""
        pause = _FIRST_PAUSE_S
        while self.doubtful:
            try:
                await self.settled()
            except UpstreamChanged:
                return
            except UpstreamError:
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_S)


def _runs(task: "asyncio.Task[None] | None") -> bool:
    return task is not None and not task.done()


def _heard(task: "asyncio.Task[None]") -> None:
    """Nobody need be waiting for how it ended."""
    if not task.cancelled():
        task.exception()
