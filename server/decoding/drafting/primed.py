"""Drafts of a stream whose first position is known already: a call that scored its prompt saw it too."""

from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass

from deltaserve.server.decoding.decoder import DraftSource
from deltaserve.server.decoding.drafting.local import BlockDraft
from deltaserve.server.decoding.protocols import Draft, Proposal
from deltaserve.server.decoding.sampling import Target
from deltaserve.server.decoding.stream import Stream


@dataclass(slots=True)
class PrimedSource:
    """A draft that is there already, then those of another source."""

    first: BlockDraft | None
    then: DraftSource

    def open(self, stream: Stream) -> AbstractAsyncContextManager[Draft]:
        first, self.first = self.first, None
        return self.then.open(stream) if first is None else nullcontext(first)

    def observe(self, stream: Stream, draft: Draft, proposal: Proposal, target: Target, emitted: int, /) -> None:
        self.then.observe(stream, draft, proposal, target, emitted)

    async def aclose(self) -> None:
        await self.then.aclose()
