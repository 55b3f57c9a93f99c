"""One answer's calls: to the member that has its prefix cached, to another one where that fails."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, TypeVar

from deltaserve.errors import UpstreamBusy, UpstreamChanged, UpstreamError, UpstreamUnreachable
from deltaserve.server.decoding.protocols import Ahead, Block, Draft, DraftParams, Floats, Ids, NamedIds
from deltaserve.server.upstream.base import Capabilities, UpstreamDraft
from deltaserve.server.upstream.cost import Cost
from deltaserve.server.upstream.listing.prompts import Portion, prompt_lists
from deltaserve.server.upstream.pool.choosing import Choosing
from deltaserve.server.upstream.pool.member import Judge, Member, is_fault

T = TypeVar("T")
_ROUNDS: Final = 3  # times that all members may be tried for one call, where there are several
_PAUSE_S: Final = 0.2  # before the second round; twice as long before the third


@dataclass(frozen=True, slots=True)
class Common:
    """What the sessions of one pool share."""

    members: Sequence[Member]
    choosing: Choosing
    capabilities: Callable[[], Capabilities]
    patience_s: float  # how long one call may wait for an upstream that can be asked


class Session:
    """An `UpstreamSession` over the members of a pool."""

    def __init__(self, common: Common) -> None:
        self._common = common
        self._member: Member | None = None  # who took the last call
        self._costs: dict[str, Cost] = {}
        self._raised: UpstreamError | None = None  # what kept the last call from being answered by anybody

    @property
    def capabilities(self) -> Capabilities:
        return self._common.capabilities()

    @property
    def costs(self) -> Mapping[str, Cost]:
        return self._costs

    def close(self) -> None:
        self._move(None)

    def draft(self, token_ids: Sequence[int], params: DraftParams) -> AbstractAsyncContextManager[Draft]:
        """One streamed call. Opening it fails over; a call that breaks later is repeated by whoever reads it."""
        return self._draft(token_ids, params)

    async def block(self, token_ids: Sequence[int], drafted: Sequence[int], params: DraftParams) -> Block:
        async def ask(member: Member) -> Block:
            if member.scorer is None:
                raise UpstreamUnreachable("The upstream cannot check blocks.")
            with member.judged() as judge:
                block = await member.scorer.block(token_ids, drafted, params)
                judge.answered()
            self._bill(member, Cost(1, block.read, block.drawn))
            return block

        return await self._asked(token_ids, ask)

    @property
    def most(self) -> int:
        return min((member.names.most for member in self._common.members if member.names is not None), default=0)

    async def named(self, prefixes: Sequence[Sequence[int]], ids: Ids) -> Sequence[Floats]:
        async def ask(member: Member) -> Sequence[Floats]:
            with member.judged() as judge:
                told = await _names_of(member).named(prefixes, ids)
                judge.answered()
            self._bill(member, Cost(1, sum(map(len, prefixes)), len(prefixes)))
            return told

        return await self._asked(prefixes[0], ask)

    @property
    def goes_on(self) -> bool:
        return all(member.names is not None and member.names.goes_on for member in self._common.members)

    @property
    def beside(self) -> bool:
        return all(member.names is not None and member.names.beside for member in self._common.members)

    async def ahead(self, prefix: Sequence[int], token_id: int, ids: Ids, length: int) -> Ahead:
        async def ask(member: Member) -> Ahead:
            with member.judged() as judge:
                told = await _names_of(member).ahead(prefix, token_id, ids, length)
                judge.answered()
            self._bill(member, Cost(1, 2 * len(prefix) + 1, told.drawn))
            return told

        return await self._asked(prefix, ask)

    async def prompt_lists(
        self, token_ids: Sequence[int], params: DraftParams, *, goes_on: bool = True, max_context: int | None = None
    ) -> AsyncGenerator[tuple[Block, int], None]:
        """All from one member; only the first portion is asked of others where it fails."""

        async def ask(member: Member) -> "_Scoring":
            portions = prompt_lists(member.box, token_ids, params, goes_on=goes_on, max_context=max_context)
            async with AsyncExitStack() as stack:
                judge = stack.enter_context(member.judged())
                await stack.enter_async_context(aclosing(portions))
                first = await anext(portions, None)
                judge.answered()
                return _Scoring(member, first, portions, stack.pop_all())

        scoring = await self._asked(token_ids, ask)
        async with scoring.stack:
            portion = scoring.first
            while portion is not None:
                self._bill(scoring.member, Cost(portion[1], portion[0].read, portion[0].drawn))
                yield portion
                portion = await anext(scoring.portions, None)

    @asynccontextmanager
    async def _draft(self, token_ids: Sequence[int], params: DraftParams) -> AsyncIterator[Draft]:
        async def ask(member: Member) -> "_Opened":
            async with AsyncExitStack() as stack:
                judge = stack.enter_context(member.judged())
                draft = await stack.enter_async_context(member.box.draft(token_ids, params))
                judge.answered()
                return _Opened(member, draft, judge, stack.pop_all())

        opened = await self._asked(token_ids, ask)
        async with opened.stack:
            try:
                yield opened.draft
            except UpstreamError as error:
                if error is self._raised:  # of a call beside this one, which whoever took it was judged for
                    opened.judge.excused = error
                raise
            finally:
                self._bill(opened.member, opened.draft.cost)

    async def _asked(self, token_ids: Sequence[int], ask: Callable[[Member], Awaitable[T]]) -> T:
        """What the first member gives that can. Raises UpstreamError: what kept the last one from it."""
        attempts = _Attempts(self._common, self._member)
        try:
            while True:
                member = await self._next(token_ids, attempts)
                try:
                    return await ask(member)
                except UpstreamError as error:
                    await attempts.failed(member, error)
        except UpstreamError as error:
            self._raised = error
            raise

    async def _next(self, token_ids: Sequence[int], attempts: "_Attempts") -> Member:
        member = await attempts.next(token_ids)
        self._move(member)
        return member

    def _move(self, member: Member | None) -> None:
        """The answer goes on there."""
        if member is self._member:
            return
        if self._member is not None:
            self._member.answers -= 1
        if member is not None:
            member.answers += 1
        self._member = member

    def _bill(self, member: Member, cost: Cost) -> None:
        member.cost += cost
        self._costs[member.name] = self._costs.get(member.name, Cost()) + cost


def _names_of(member: Member) -> NamedIds:
    if member.names is None:
        raise UpstreamUnreachable("The upstream does not tell the numbers of ids by name.")
    return member.names


@dataclass(slots=True)
class _Opened:
    """A call under way; closing `stack` ends it."""

    member: Member
    draft: UpstreamDraft
    judge: Judge
    stack: AsyncExitStack


@dataclass(slots=True)
class _Scoring:
    """A prompt that is being scored; closing `stack` ends it."""

    member: Member
    first: Portion | None
    portions: AsyncGenerator[Portion, None]
    stack: AsyncExitStack


@dataclass(slots=True)
class _Attempts:
    """To get one call answered by some member, in bounded time."""

    common: Common
    holder: Member | None  # of the answer's prefix
    _without: set[Member] = field(default_factory=set)  # that failed in this round
    _round: int = 1
    _until: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self._until = asyncio.get_running_loop().time() + self.common.patience_s

    @property
    def _left_s(self) -> float:
        return self._until - asyncio.get_running_loop().time()

    async def next(self, token_ids: Sequence[int]) -> Member:
        """Whom to ask. Waits for a breaker; those who can tell only by being asked are asked.

        Raises UpstreamBusy; UpstreamChanged where all are kept out.
        """
        while True:
            member = self.common.choosing.choose(token_ids, self.holder, self._without) or self._last_resort()
            wait = member.breaker.wait_s if member.usable else 0.0
            if wait == 0.0:
                return member
            if wait > self._left_s:
                raise UpstreamBusy(
                    "The upstream failed several times in a row and is left alone for a while.", retry_after_s=wait
                )
            await asyncio.sleep(wait)

    async def failed(self, member: Member, error: UpstreamError) -> None:
        """Raises the error where nobody else can be asked in time."""
        busy = isinstance(error, UpstreamBusy)
        if busy and member.usable and member.wait_s() > 0.0:  # it said for how long
            if min(other.wait_s() for other in self.common.members if other.usable) > self._left_s:
                raise error
            return
        late = busy and self._left_s <= 0.0  # it has waited in a queue: not in another one for as long again
        if late or not (busy or is_fault(error)) or len(self.common.members) == 1:
            raise error
        self._without.add(member)
        if all(other in self._without or not other.usable for other in self.common.members):
            await self._begin_round(error)

    async def _begin_round(self, error: UpstreamError) -> None:
        pause = _PAUSE_S * self._round
        if self._round == _ROUNDS or pause > self._left_s:
            raise error
        await asyncio.sleep(pause)
        self._round += 1
        self._without.clear()

    def _last_resort(self) -> Member:
        """One that is in doubt: it looks whether it is the same black box, and says so if not."""
        like = [member for member in self.common.members if member.unlike is None]
        if not like:
            raise UpstreamChanged(self.common.members[0].unlike or "")
        return next((member for member in like if member not in self._without), like[0])
