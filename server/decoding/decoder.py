"""The loop: proposals of the black box in, corrected tokens of one choice out."""

from collections.abc import AsyncGenerator, Iterator
from contextlib import AbstractAsyncContextManager, aclosing, contextmanager
from typing import Protocol

from deltaserve.errors import BlindPosition, UpstreamError, UpstreamUnreachable
from deltaserve.server.decoding.correction import correct
from deltaserve.server.decoding.protocols import Draft, Proposal
from deltaserve.server.decoding.sampling import Target, target
from deltaserve.server.decoding.stream import Piece, Step, Stream

_MAX_BARREN_CALLS = 3  # upstream calls in a row that may fail or give nothing before the answer fails


class DraftSource(Protocol):
    """Who proposes the tokens of one stream. There is one object for each stream."""

    def open(self, stream: Stream) -> AbstractAsyncContextManager[Draft]:
        """The next draft, from the stream's ids on. Leaving the context closes it."""

    def observe(self, stream: Stream, draft: Draft, proposal: Proposal, target: Target, emitted: int, /) -> None:
        """Learn from one verified position, before the stream takes the token."""

    async def aclose(self) -> None:
        """Close what was opened ahead of an answer that has ended."""


async def decode(stream: Stream, source: DraftSource) -> AsyncGenerator[Step, None]:
    """Corrected tokens of one choice; every yielded token is an exact draw from the corrected target.

    Raises UpstreamError when the black box fails for good, OffsetUnavailable when the pair does.
    """
    calls = _Calls(stream)
    async with aclosing(source):
        while not stream.finished:
            with calls.one():
                stream.session.prefetch(stream.ids)
                async with source.open(stream) as draft:
                    async for proposal in draft:
                        goal = await _target(stream, draft, proposal)
                        step = stream.decide(proposal, goal, draft.temperature)
                        source.observe(stream, draft, proposal, goal, step.token_id)
                        yield stream.advance(step)
                        if step.replaced or stream.finished:
                            stream.stats.wasted += len(draft.pending())
                            break


class _Calls:
    """Upstream calls of one stream. A call that fails or gives nothing is followed by another one, a few times."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._barren = 0

    @contextmanager
    def one(self) -> Iterator[None]:
        """Around one call. Raises its UpstreamError where no retry helps, or where the last calls gave nothing."""
        before = self._stream.emitted
        fault: UpstreamError | None = None
        try:
            yield
        except UpstreamError as error:
            if not (error.retryable or isinstance(error, BlindPosition)):
                raise
            self._stream.stats.upstream_faults += 1
            fault = error
        self._barren = 0 if self._stream.emitted > before else self._barren + 1
        if self._barren >= _MAX_BARREN_CALLS:
            raise fault or UpstreamUnreachable("the black box ended its answer without a token")


async def _target(stream: Stream, draft: Draft, proposal: Proposal) -> Target:
    """The distribution that the token at this position is drawn from."""
    if proposal.end_id is not None:
        stream.learn_end(proposal.end_id)
    listed = bool(proposal.top_ids.size)
    if not (listed or stream.policy.allow_blind):
        raise BlindPosition(
            "The black box did not show which tokens it considers at a position of this answer, not even when asked "
            "again: nothing can be corrected there. The setting allow_blind lets the pair alone decide such positions."
        )
    row = proposal.row
    if row is None:
        pending = draft.pending()
        if pending and proposal.token_id is not None:  # the black box is ahead: score what has arrived in one go
            stream.session.prefetch([*stream.ids, proposal.token_id, *pending])
        row = await stream.session.row(stream.ids)
    tail = stream.policy.tail if listed else "impute"  # of a blind position there is nothing but tail
    corrected = correct(proposal, row, tail, stream.history.touched())
    return target(corrected, stream.params, stream.history, stream.policy.guard)


async def generate(stream: Stream, source: DraftSource) -> AsyncGenerator[Piece, None]:
    """Steps as text: whole characters, stop strings applied. Closing it closes the upstream call."""
    waiting: list[Step] = []
    async with aclosing(decode(stream, source)) as steps:
        async for step in steps:
            waiting.append(step)
            text = stream.text_of(step)
            if text or stream.finished:
                yield Piece(text, tuple(waiting), stream.finish_reason, stream.stop_reason)
                waiting.clear()
            if stream.finished:
                return
