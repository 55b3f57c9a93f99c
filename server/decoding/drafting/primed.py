"""Drafts of a stream whose first position is known already: a call that scored its prompt saw it too."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass

from deltaserve.server.decoding.deciding.corrector import Decision
from deltaserve.server.decoding.deciding.naming import NamesWanted
from deltaserve.server.decoding.decoder import DraftSource
from deltaserve.server.decoding.drafting.local import BlockDraft
from deltaserve.server.decoding.protocols import Draft, Proposal
from deltaserve.server.decoding.stream import Stream


@dataclass(slots=True)
class PrimedSource:
    """A draft that is there already, then those of another source."""

    first: BlockDraft | None
    then: DraftSource

    def open(self, stream: Stream) -> AbstractAsyncContextManager[Draft]:
        first, self.first = self.first, None
        return self.then.open(stream) if first is None or stream.emitted else nullcontext(first)

    def holds(self, stream: Stream) -> bool:
        return self.first is None and self.then.holds(stream)

    async def named(self, stream: Stream, run: Sequence[Proposal], wanted: NamesWanted) -> list[Proposal]:
        return await self.then.named(stream, run, wanted)

    @property
    def observes(self) -> bool:
        return self.then.observes

    def observe(self, stream: Stream, proposal: Proposal, decision: Decision, /) -> None:
        self.then.observe(stream, proposal, decision)

    async def aclose(self) -> None:
        await self.then.aclose()
