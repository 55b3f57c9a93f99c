"""A source of drafts that chooses by speed: the black box's own stream, or blocks that the pair drafts.

Both are verified by the same rule, so the choice changes speed and upstream cost, never the distribution.
"""

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field

from deltaserve.server.decoding.deciding.corrector import Decision
from deltaserve.server.decoding.deciding.naming import NamesWanted
from deltaserve.server.decoding.drafting.acceptance import Accepted
from deltaserve.server.decoding.drafting.local import verified_block
from deltaserve.server.decoding.drafting.pace import Pace
from deltaserve.server.decoding.drafting.upstream import UpstreamSource
from deltaserve.server.decoding.protocols import BlockScorer, Draft, Proposal
from deltaserve.server.decoding.stream import Stream

_BLOCK_LENGTHS = (1, 2, 4, 8, 16, 32)
_CLEARLY = 1.2  # a block must promise this much more than a stream: it also takes work from the black box
_TRIAL = 2  # tokens of a block that is drafted only to see what it costs


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockLimits:
    """What an operator allows the pair's blocks to cost."""

    longest_block: int = 16
    positions_per_token: float = 4.0  # upstream positions scored per emitted token, running
    concurrent_positions: int = 256  # over all streams of one black box


@dataclass(slots=True)
class AdaptiveSource:
    """A `DraftSource` that takes the better expected rate, from running acceptances and measured times."""

    streaming: UpstreamSource
    scorer: BlockScorer
    pace: Pace
    limits: BlockLimits
    accepted: Accepted = field(default_factory=Accepted)

    def open(self, stream: Stream) -> AbstractAsyncContextManager[Draft]:
        streams = self.streaming.ready(stream) or self.holds(stream)
        length = 0 if streams else self.block_length(stream)
        return self._block(stream, length) if length else self._stream(stream)

    def holds(self, stream: Stream) -> bool:
        return self.streaming.holds(stream)

    async def named(self, stream: Stream, run: Sequence[Proposal], wanted: NamesWanted) -> list[Proposal]:
        return await self.streaming.named(stream, run, wanted)

    @property
    def observes(self) -> bool:
        return True

    def observe(self, stream: Stream, proposal: Proposal, decision: Decision) -> None:
        """Credit both sources, also the one that was not asked. A draft that was held tells nothing of free ones."""
        self.streaming.observe(stream, proposal, decision)
        agreement = decision.agreement
        if agreement is not None and not proposal.held:
            self.accepted.add(agreement.upstream, agreement.local)

    async def aclose(self) -> None:
        await self.streaming.aclose()

    def block_length(self, stream: Stream) -> int:
        """Length of the block that beats the black box's own stream; 0 when none does."""
        length = 0 if self.pace.stream_old else self._best_length(stream)
        if length == 0 and self.pace.old:
            return min(self._best_length(stream, hopeful=True), _TRIAL)
        return length

    def _best_length(self, stream: Stream, hopeful: bool = False) -> int:
        """The same by what blocks are known to cost; `hopeful`: as if nothing were known of it."""
        best, best_rate = 0, _CLEARLY * self._streaming_rate(stream.remaining)
        for length in _BLOCK_LENGTHS:
            if length > min(self.limits.longest_block, stream.remaining) or not self._affordable(stream, length):
                break
            if (rate := self._local_rate(length, hopeful)) > best_rate:
                best, best_rate = length, rate
        return best

    def _affordable(self, stream: Stream, length: int) -> bool:
        gain = _expected_run(self.accepted.local.value, length)
        positions = stream.stats.block_positions + length + 1
        return (
            positions <= self.limits.positions_per_token * (stream.emitted + gain)
            and self.pace.block_positions + length + 1 <= self.limits.concurrent_positions
        )

    def _streaming_rate(self, remaining: int) -> float:
        """Expected tokens a second of the black box's own stream, opening it included."""
        tokens = _expected_run(self.accepted.upstream.value, remaining - 1)
        return tokens / (self.pace.first_token_s.value + (tokens - 1.0) * self.pace.token_s.value)

    def _local_rate(self, length: int, hopeful: bool) -> float:
        tokens = _expected_run(self.accepted.local.value, length)
        deciding_s = tokens * self.pace.decided_s.value  # of a stream that is done while the next token is awaited
        return tokens / (length * self.pace.local(hopeful) + self.pace.block(length + 1, hopeful) + deciding_s)

    @asynccontextmanager
    async def _stream(self, stream: Stream) -> AsyncGenerator[Draft, None]:
        opened = None if self.streaming.ready(stream) else time.perf_counter()
        async with self.streaming.open(stream) as draft:
            yield TimedDraft(draft, self.pace, opened)

    @asynccontextmanager
    async def _block(self, stream: Stream, length: int) -> AsyncGenerator[Draft, None]:
        self.pace.tried()
        started = time.perf_counter()
        block = await stream.corrector.draft(length)
        proposed = time.perf_counter()
        self.pace.drafted((proposed - started) / len(block))
        positions = len(block) + 1
        stream.stats.upstream_calls += 1
        stream.stats.block_positions += positions
        self.pace.block_positions += positions
        try:
            draft = await verified_block(stream, self.scorer, block)
        finally:
            self.pace.block_positions -= positions
        scored, emitted = time.perf_counter(), stream.emitted
        self.pace.scored(positions, scored - proposed)
        yield draft
        if decided := stream.emitted - emitted:
            self.pace.decided_s.add((time.perf_counter() - scored) / decided)


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

    def arrived(self) -> list[Proposal]:
        proposals = self._draft.arrived()
        if proposals:
            self._last = time.perf_counter()
        return proposals

    def __aiter__(self) -> "TimedDraft":
        return self

    async def __anext__(self) -> Proposal:
        awaited = time.perf_counter()
        proposal = await anext(self._proposals)
        now = time.perf_counter()
        if self._first and self._last is not None:
            self._pace.opened(now - self._last)
        elif self._last is not None and now - awaited > 1e-4:  # it had not arrived yet: the black box set the pace
            self._pace.token_s.add(now - self._last)
        self._first, self._last = False, now
        return proposal


def _expected_run(accepted: float, length: int) -> float:
    """Expected emitted tokens of a draft of `length`: its accepted run and the token after it."""
    accepted = min(accepted, 0.999)
    return float((1.0 - accepted ** (length + 1)) / (1.0 - accepted))
