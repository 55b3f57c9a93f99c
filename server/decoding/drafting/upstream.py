"""The black box's own stream as the source of drafts."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from deltaserve.server.decoding.deciding.corrector import Decision
from deltaserve.server.decoding.deciding.naming import NamesWanted, left_as_it_is
from deltaserve.server.decoding.drafting.early_calls import EarlyCall
from deltaserve.server.decoding.drafting.naming import Namer
from deltaserve.server.decoding.protocols import Draft, DraftParams, Proposal, Upstream
from deltaserve.server.decoding.stream import Stream

_SHORTEST = 8
_GROWTH = 4
_REPLACING = _SHORTEST * _GROWTH  # calls are no longer where a token was replaced not long ago


@dataclass(slots=True)
class CallLength:
    """How many tokens one call asks for: all that remain while tokens are accepted, few where they are replaced.

    What arrives after a replaced token is wasted.
    """

    bound: int | None = None  # None: as many as the answer may still have
    fixed: bool = False

    def limit(self, remaining: int) -> int:
        return remaining if self.bound is None else min(remaining, self.bound)

    def learn(self, accepted: int, *, replaced: bool) -> None:
        """A call has ended: `accepted` of its tokens were emitted, then, if `replaced`, a token of our own."""
        if self.fixed:
            return
        if replaced:
            self.bound = max(_SHORTEST, _GROWTH * accepted)
        elif self.bound is not None:
            self.bound *= _GROWTH


@dataclass(slots=True)
class UpstreamSource:
    """A `DraftSource` that always lets the black box stream."""

    upstream: Upstream
    length: CallLength = field(default_factory=CallLength)
    early_call: EarlyCall | None = None
    namer: Namer | None = None
    forms: bool = False  # the black box may be sent what the answer is held to

    def holds(self, stream: Stream) -> bool:
        return self.forms and stream.form is not None

    @asynccontextmanager
    async def open(self, stream: Stream) -> AsyncGenerator[Draft, None]:
        if self.namer is not None and (told := self.namer.taken(stream)) is not None:
            yield told
            return
        params = self._params(stream)
        emitted, accepted = stream.emitted, stream.stats.accepted
        early = None if self.namer is not None and self.namer.goes_on(stream) else self.early_call
        async with self._call(stream, params) if early is None else self._early(early, stream, params) as draft:
            yield draft
        accepted = stream.stats.accepted - accepted
        self.length.learn(accepted, replaced=stream.emitted - emitted > accepted)

    @asynccontextmanager
    async def _early(self, early: EarlyCall, stream: Stream, params: DraftParams) -> AsyncGenerator[Draft, None]:
        """The early call where there is one for these ids, else a new call; and the next early call is prepared."""
        async with early.taken(stream) as draft:
            early.watch(stream, params)
            if draft is not None:
                yield draft
                return
            async with self._call(stream, params) as draft:
                yield draft

    def ready(self, stream: Stream) -> bool:
        """Whether a draft of what comes next is there, or a call for it on its way."""
        told = self.namer is not None and self.namer.ready(stream)
        return told or (self.early_call is not None and self.early_call.ready(stream))

    @asynccontextmanager
    async def _call(self, stream: Stream, params: DraftParams) -> AsyncGenerator[Draft, None]:
        """Names in it are worth their bytes where tokens are replaced: each position of the call tells them all."""
        bound = self.length.bound
        if self.namer is not None and bound is not None and bound <= _REPLACING:
            params = replace(params, names=await self.namer.in_first_call(stream))
        stream.stats.upstream_calls += 1
        async with self.upstream.draft(stream.ids, params) as draft:
            yield draft

    def _params(self, stream: Stream) -> DraftParams:
        wanted = stream.params
        return DraftParams(
            wanted.temperature,
            self.length.limit(stream.remaining),
            wanted.seed,
            wanted.ignore_eos,
            max(wanted.min_tokens - stream.emitted, 0) if stream.point_drafts else 0,
            stream=stream.key,
            grammar=stream.form if self.forms else None,
            whole_lists=stream.needs_whole_lists,
        )

    async def named(self, stream: Stream, run: Sequence[Proposal], wanted: NamesWanted) -> list[Proposal]:
        if self.namer is None:
            return [left_as_it_is(proposal) for proposal in run]
        return await self.namer.named(stream, run, wanted)

    @property
    def observes(self) -> bool:
        return False

    def observe(self, stream: Stream, proposal: Proposal, decision: Decision) -> None:
        if self.early_call is not None:
            self.early_call.decided(stream, proposal.token_id, decision.token_id)

    async def aclose(self) -> None:
        if self.early_call is not None:
            await self.early_call.aclose()
