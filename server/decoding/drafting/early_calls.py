"""Calls that are opened before they are needed.

While the black box still works on a position where the pair strongly prefers another token, a second call is opened
behind that token. If the correction then chooses it, the answer goes on at once.
This changes when a call is opened, never what is drawn: the call is used only if its prefix is what was emitted.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Final

from deltaserve.errors import DeltaserveError
from deltaserve.server.decoding.drafting.acceptance import Acceptance
from deltaserve.server.decoding.protocols import Draft, DraftParams, Upstream
from deltaserve.server.decoding.stream import Stream

_WORTH: Final = 0.4  # share of early calls that must turn out useful
_TRIED_AGAIN: Final = 16  # where they were not, one chance in so many is taken


@dataclass(frozen=True, slots=True)
class _Opened:
    context: AbstractAsyncContextManager[Draft]
    draft: Draft


@dataclass(slots=True)
class Record:
    """How often early calls were useful for one kind of stream. Where they fail, hardly any are made."""

    useful: Acceptance = field(default_factory=lambda: Acceptance(0.7))
    _passed: int = 0

    def worth_trying(self) -> bool:
        if self.useful.value >= _WORTH:
            return True
        self._passed += 1
        return self._passed % _TRIED_AGAIN == 0


@dataclass(slots=True)
class Records:
    """The records of all streams of one black box: a sampled draw refutes guesses that a greedy choice would not."""

    greedy: Record = field(default_factory=Record)
    sampled: Record = field(default_factory=Record)

    def of(self, stream: Stream) -> Record:
        return self.greedy if stream.params.temperature == 0 else self.sampled


class EarlyCall:
    """The early call of one stream, where there is one."""

    def __init__(self, upstream: Upstream, records: Records) -> None:
        self._upstream = upstream
        self._records = records
        self._prefix: list[int] | None = None  # what the early call goes on from
        self._task: asyncio.Task[_Opened | None] | None = None
        self._closing: asyncio.Task[None] | None = None

    def watch(self, stream: Stream, params: DraftParams) -> None:
        """To be called when the position after the stream's ids is about to be asked for with `params`."""
        if self._task is not None:  # of a call that failed before its next token was decided
            self._give_up(self._task)
        if params.max_tokens > 1:
            self._task = asyncio.create_task(self._open_early(stream, params))

    def decided(self, stream: Stream, proposed: int | None, emitted: int) -> None:
        """The next token is known: an early call behind any other one, or behind M's own, is given up."""
        task, prefix = self._task, self._prefix
        if task is None:
            return
        useful = emitted != proposed and prefix == [*stream.ids, emitted]
        if prefix is not None:
            self._records.of(stream).useful.add(float(useful))
        if not useful:
            self._give_up(task)

    def _give_up(self, task: asyncio.Task[_Opened | None]) -> None:
        self._task = self._prefix = None
        self._closing = asyncio.create_task(_given_up(task))

    def ready(self, stream: Stream) -> bool:
        """Whether there is an early call for what comes next."""
        return self._prefix == stream.ids

    @asynccontextmanager
    async def taken(self, stream: Stream) -> AsyncGenerator[Draft | None, None]:
        """The early call, where it goes on from the stream's ids; None otherwise. Raises what opening it raised."""
        task = self._task if self.ready(stream) else None
        if task is None:
            yield None
            return
        self._task = self._prefix = None
        opened = await _finished(task)
        if opened is None:
            yield None
            return
        stream.stats.early_used += 1
        async with AsyncExitStack() as stack:
            stack.push_async_exit(opened.context)  # which hears how the draft ends
            yield opened.draft

    async def aclose(self) -> None:
        """Give up the early call, if there is one."""
        task, self._task, self._prefix = self._task, None, None
        if task is not None:
            await _given_up(task)
        if self._closing is not None:
            await asyncio.wait((self._closing,))

    async def _open_early(self, stream: Stream, params: DraftParams) -> _Opened | None:
        ids = list(stream.ids)
        guess = await stream.corrector.expected()
        if guess is None or stream.ids != ids or not self._records.of(stream).worth_trying():
            return None
        self._prefix = [*ids, guess]
        stream.stats.upstream_calls += 1
        stream.stats.early_calls += 1
        shorter = replace(
            params, max_tokens=params.max_tokens - 1, min_tokens=max(params.min_tokens - 1, 0), grammar=None
        )
        context = self._upstream.draft(self._prefix, shorter)
        return _Opened(context, await context.__aenter__())


async def _finished(task: asyncio.Task[_Opened | None]) -> _Opened | None:
    """What the task opened. A caller that is cancelled while it waits leaves nothing open."""
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await _given_up(task)
        raise


async def _given_up(task: asyncio.Task[_Opened | None]) -> None:
    task.cancel()
    await asyncio.wait((task,))
    if task.cancelled() or task.exception() is not None:  # nobody waits for its result
        return
    opened = task.result()
    if opened is not None:
        with suppress(DeltaserveError):  # of a call whose answer nobody wanted
            await opened.context.__aexit__(None, None, None)
