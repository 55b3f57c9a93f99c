"""The loop: proposals of the black box in, corrected tokens of one choice out."""

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, contextmanager
from typing import Protocol

from deltaserve.errors import (
    BlindPosition,
    MalformedTopK,
    OtherGrammar,
    UpstreamError,
    UpstreamRefused,
    UpstreamUnreachable,
)
from deltaserve.server.decoding.deciding.corrector import Decision
from deltaserve.server.decoding.deciding.naming import NamesWanted
from deltaserve.server.decoding.protocols import Draft, Proposal
from deltaserve.server.decoding.stream import Piece, Step, Stream

_MAX_BARREN_CALLS = 3  # upstream calls in a row that may fail or give nothing before the answer fails


class DraftSource(Protocol):
    """Who proposes the tokens of one stream. There is one object for each stream."""

    def open(self, stream: Stream) -> AbstractAsyncContextManager[Draft]:
        """The next draft, from the stream's ids on. Leaving the context closes it."""

    def holds(self, stream: Stream) -> bool:
        """Whether the black box is sent the answer's constraint with the next draft: then that draft begins it."""

    async def named(self, stream: Stream, run: Sequence[Proposal], wanted: NamesWanted) -> list[Proposal]:
        """The run, completed where its first positions are not decided before; none of it: M is asked anew.

        Raises UpstreamError.
        """

    @property
    def observes(self) -> bool:
        """Whether it learns from the agreement at each position."""

    def observe(self, stream: Stream, proposal: Proposal, decision: Decision, /) -> None:
        """Learn from one decided position, before the stream takes the token."""

    async def aclose(self) -> None:
        """Close what was opened ahead of an answer that has ended."""


async def decode(stream: Stream, source: DraftSource) -> AsyncGenerator[Step, None]:
    """Corrected tokens of one choice; every yielded token is an exact draw from the corrected target.

    Raises UpstreamError when the black box fails for good, OffsetUnavailable when the pair does.
    """
    calls = _Calls(stream)
    async with aclosing(source):
        while not stream.finished:
            with calls.one(held=source.holds(stream)):
                for step in [] if source.holds(stream) else await stream.forced():
                    yield stream.advance(step)
                if stream.finished:
                    return
                stream.corrector.prefetch()
                async with source.open(stream) as draft, aclosing(_steps(stream, source, draft)) as steps:
                    async for step in steps:
                        yield step


async def _steps(stream: Stream, source: DraftSource, draft: Draft) -> AsyncGenerator[Step, None]:
    """The steps that one draft leads to: up to the first replaced token, the draft's end or the answer's."""
    async for first in draft:
        run = [first, *draft.arrived()]
        while run:
            try:
                decisions = await stream.corrector.decide(run, draft.temperature, observed=source.observes)
            except NamesWanted as wanted:
                run = await source.named(stream, run, wanted)
                continue
            for proposal, decision in zip(run, decisions, strict=False):
                step = stream.step(proposal, decision)
                source.observe(stream, proposal, decision)
                yield stream.advance(step)
                if step.replaced or stream.finished:
                    stream.stats.wasted += len(run) - len(decisions) + len(draft.arrived())
                    return
            run = run[len(decisions) :]


class _Calls:
    """Upstream calls of one stream. A call that fails or gives nothing is followed by another one, a few times."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._barren = 0

    @contextmanager
    def one(self, *, held: bool) -> Iterator[None]:
        """Around one call. Raises its UpstreamError where no retry helps, or where the last calls gave nothing.

        `held`: the black box was sent the constraint, which it may not take. The next call does without.
        """
        stream = self._stream
        before = stream.emitted
        fault: UpstreamError | None = None
        try:
            yield
        except UpstreamError as error:
            if held and (self._barren or isinstance(error, UpstreamRefused | MalformedTopK | OtherGrammar)):
                stream.without_form = True
            elif not (error.retryable or isinstance(error, BlindPosition)):
                raise
            stream.stats.upstream_faults += 1
            fault = error
        self._barren = 0 if stream.emitted > before else self._barren + 1
        if self._barren >= _MAX_BARREN_CALLS:
            raise fault or UpstreamUnreachable("the black box ended its answer without a token")


async def generate(stream: Stream, source: DraftSource) -> AsyncGenerator[Piece, None]:
    """Steps as text: whole characters, stop strings applied. Closing it closes the upstream call."""
    waiting: list[Step] = []
    async with aclosing(decode(stream, source)) as steps:
        async for step in steps:
            waiting.append(step)
            text = stream.text_of(step)
            segments = stream.segments_of(text)
            if text or segments or stream.finished:
                yield Piece(text, tuple(waiting), stream.finish_reason, stream.stop_reason, segments=segments)
                waiting.clear()
            if stream.finished:
                return
