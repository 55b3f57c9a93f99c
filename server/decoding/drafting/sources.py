"""Where a stream's drafts come from: the black box's own stream, or blocks that the pair drafts. Chosen by what pays.

Both are verified by the same rule, so the choice changes speed and upstream cost, never the distribution.
"""

import time
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from deltaserve.server.decoding.drafting.agreement import Acceptance, local_agreement, upstream_agreement
from deltaserve.server.decoding.drafting.draft_length import DraftLength
from deltaserve.server.decoding.drafting.early_calls import Foresight, Records
from deltaserve.server.decoding.drafting.local import blind_target, propose, verified_block
from deltaserve.server.decoding.drafting.pace import Pace
from deltaserve.server.decoding.protocols import BlockScorer, Draft, DraftParams, Proposal, Upstream
from deltaserve.server.decoding.sampling import Target

if TYPE_CHECKING:
    from deltaserve.server.decoding.decoder import Stream

_BLOCK_LENGTHS = (1, 2, 4, 8, 16, 32)
_CLEARLY = 1.2  # a block must promise this much more than a stream: it also takes work from the black box
_TRIAL = 2  # tokens of a block that is drafted only to see what it costs
_OBSERVED_EVERY = 3  # accepted steps whose agreement with the pair is worked out: that takes passes over the vocabulary


class Drafts(Protocol):
    """A stream's draft source. One object a stream."""

    def open(self, stream: "Stream") -> AbstractAsyncContextManager[Draft]: ...

    def observe(self, stream: "Stream", proposal: Proposal, target: Target, emitted: int, /) -> None:
        """Learn from one verified position, before the stream takes the token."""

    def ended(self, accepted: int, *, replaced: bool) -> None:
        """Learn from one finished draft."""

    async def aclose(self) -> None:
        """The answer has ended: give up what was opened ahead of it."""


@dataclass(slots=True)
class UpstreamDrafts:
    """The black box's own stream, always."""

    upstream: Upstream
    length: DraftLength = field(default_factory=DraftLength)
    foresight: Foresight | None = None

    @asynccontextmanager
    async def open(self, stream: "Stream") -> AsyncGenerator[Draft, None]:
        params = self._params(stream)
        if self.foresight is None:
            async with self._call(stream, params) as draft:
                yield draft
            return
        async with self.foresight.taken(stream) as early:
            self.foresight.watch(stream, params)
            if early is not None:
                yield early
                return
            async with self._call(stream, params) as draft:
                yield draft

    def _call(self, stream: "Stream", params: DraftParams) -> AbstractAsyncContextManager[Draft]:
        stream.stats.upstream_calls += 1
        return self.upstream.draft(stream.ids, params)

    def _params(self, stream: "Stream") -> DraftParams:
        remaining = stream.params.max_tokens - stream.emitted
        asked = stream.params
        point = asked.temperature == 0.0 or asked.seed is not None  # accepted by equality: any draft will do
        return DraftParams(
            asked.temperature,
            self.length.limit(remaining),
            asked.seed,
            asked.ignore_eos,
            max(asked.min_tokens - stream.emitted, 0) if point else 0,
        )

    def observe(self, stream: "Stream", proposal: Proposal, _target: Target, emitted: int) -> None:
        if self.foresight is not None:
            self.foresight.decided(stream, proposal.token_id, emitted)

    def ended(self, accepted: int, *, replaced: bool) -> None:
        self.length.ended(accepted, replaced=replaced)

    async def aclose(self) -> None:
        if self.foresight is not None:
            await self.foresight.aclose()


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalDraftLimits:
    """What an operator allows local drafts to cost."""

    longest_block: int = 16
    positions_per_token: float = 4.0  # upstream positions scored per emitted token, running
    concurrent_positions: int = 256  # over all streams of one black box


@dataclass(slots=True)
class AdaptiveDrafts:
    """The source with the better expected rate, from running acceptances and measured times."""

    upstream: Upstream
    scorer: BlockScorer
    pace: Pace
    limits: LocalDraftLimits
    foresight: Foresight | None = None
    streaming: UpstreamDrafts = field(init=False)
    upstream_accepted: Acceptance = field(default_factory=lambda: Acceptance(0.95))
    local_accepted: Acceptance = field(default_factory=lambda: Acceptance(0.6))  # until seen: the black box streams
    _seen: int = 0
    _local: bool = False
    _guessed: bool = False  # the black box's draws are only guesses

    def __post_init__(self) -> None:
        self.streaming = UpstreamDrafts(self.upstream, foresight=self.foresight)

    def open(self, stream: "Stream") -> AbstractAsyncContextManager[Draft]:
        early = self.foresight is not None and self.foresight.ready(stream)
        length = 0 if early else self.block_length(stream)
        self._local = length > 0
        return self._block(stream, length) if self._local else self._stream(stream)

    def observe(self, stream: "Stream", proposal: Proposal, target: Target, emitted: int) -> None:
        """Credit both sources, also the one that was not asked.

        Where a token was replaced the next draft is about to be chosen: what the pair would have done counts there.
        """
        self.streaming.observe(stream, proposal, target, emitted)
        seeded = stream.noise.seeded
        self.upstream_accepted.add(upstream_agreement(target, proposal, emitted, seeded, guessed=self._guessed))
        self._seen += 1
        if self._seen % _OBSERVED_EVERY and emitted == proposal.token_id:
            return
        blind = blind_target(target.corrected.row, stream, stream.history)
        self.local_accepted.add(local_agreement(target, blind, seeded))

    def ended(self, accepted: int, *, replaced: bool) -> None:
        if not self._local:
            self.streaming.ended(accepted, replaced=replaced)

    async def aclose(self) -> None:
        await self.streaming.aclose()

    def block_length(self, stream: "Stream") -> int:
        """Length of the block that beats the black box's own stream; 0 when none does."""
        length = 0 if self.pace.stream_old else self._paying(stream)
        if length == 0 and self.pace.old:
            return min(self._paying(stream, hopeful=True), _TRIAL)
        return length

    def _paying(self, stream: "Stream", hopeful: bool = False) -> int:
        """The same by what blocks cost as far as is known; `hopeful`: as if nothing were."""
        remaining = stream.params.max_tokens - stream.emitted
        best, best_rate = 0, _CLEARLY * self._streaming_rate(remaining)
        for length in _BLOCK_LENGTHS:
            if length > min(self.limits.longest_block, remaining) or not self._affordable(stream, length):
                break
            if (rate := self._local_rate(length, hopeful)) > best_rate:
                best, best_rate = length, rate
        return best

    def _affordable(self, stream: "Stream", length: int) -> bool:
        gain = _expected_run(self.local_accepted.value, length)
        positions = stream.stats.block_positions + length + 1
        return (
            positions <= self.limits.positions_per_token * (stream.emitted + gain)
            and self.pace.block_positions + length + 1 <= self.limits.concurrent_positions
        )

    def _streaming_rate(self, remaining: int) -> float:
        """Expected tokens a second of the black box's own stream, opening it included."""
        tokens = _expected_run(self.upstream_accepted.value, remaining - 1)
        return tokens / (self.pace.first_token_s.value + (tokens - 1.0) * self.pace.token_s.value)

    def _local_rate(self, length: int, hopeful: bool) -> float:
        tokens = _expected_run(self.local_accepted.value, length)
        return tokens / (length * self.pace.local(hopeful) + self.pace.block(length + 1, hopeful))

    @asynccontextmanager
    async def _stream(self, stream: "Stream") -> AsyncGenerator[Draft, None]:
        early = self.foresight is not None and self.foresight.ready(stream)
        started = None if early else time.perf_counter()
        async with self.streaming.open(stream) as draft:
            self._guessed = draft.temperature is None
            yield TimedDraft(draft, self.pace, started)

    @asynccontextmanager
    async def _block(self, stream: "Stream", length: int) -> AsyncGenerator[Draft, None]:
        self.pace.tried()
        started = time.perf_counter()
        drafted = await propose(stream, length)
        asked = time.perf_counter()
        self.pace.drafted((asked - started) / len(drafted))
        positions = len(drafted) + 1
        stream.stats.upstream_calls += 1
        stream.stats.block_positions += positions
        self.pace.block_positions += positions
        try:
            block = await verified_block(stream, self.scorer, drafted)
        finally:
            self.pace.block_positions -= positions
        self.pace.scored(positions, time.perf_counter() - asked)
        self._guessed = block.temperature is None
        yield block


@dataclass(slots=True)
class DraftSources:
    """What the streams of one black box draft from, and what they learned of its pace."""

    upstream: Upstream
    scorer: BlockScorer | None  # None: blocks cannot be scored, or do not pay
    limits: LocalDraftLimits
    foresee: bool = True  # open calls early where the pair sees a restart coming
    pace: Pace = field(default_factory=Pace)
    early: Records = field(default_factory=Records)

    def for_stream(self, *, explained: bool = False) -> Drafts:
        """Explained streams keep to the black box's own stream: they show what it chose, not what the pair drafted."""
        foresight = Foresight(self.upstream, self.early) if self.foresee else None
        if self.scorer is None or explained:
            return UpstreamDrafts(self.upstream, foresight=foresight)
        return AdaptiveDrafts(self.upstream, self.scorer, self.pace, self.limits, foresight)


class TimedDraft:
    """A draft whose arrivals are timed, the first from when it was `opened`; None: nobody was waiting for it."""

    def __init__(self, draft: Draft, pace: Pace, opened: float | None) -> None:
        self._draft = draft
        self._pace = pace
        self._proposals = aiter(draft)
        self._last = opened
        self._first = True

    @property
    def temperature(self) -> float | None:
        return self._draft.temperature

    def pending(self) -> "list[int]":
        return list(self._draft.pending())

    def __aiter__(self) -> "TimedDraft":
        return self

    async def __anext__(self) -> Proposal:
        asked = time.perf_counter()
        proposal = await anext(self._proposals)
        now = time.perf_counter()
        if self._first and self._last is not None:
            self._pace.opened(now - self._last)
        elif self._last is not None and now - asked > 1e-4:  # one that had not arrived yet: the black box set the pace
            self._pace.token_s.add(now - self._last)
        self._first, self._last = False, now
        return proposal


def _expected_run(accepted: float, length: int) -> float:
    """Expected emitted tokens of a draft of `length`: its accepted run and the token after it."""
    accepted = min(accepted, 0.999)
    return float((1.0 - accepted ** (length + 1)) / (1.0 - accepted))
