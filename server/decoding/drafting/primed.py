"""Drafts of a stream whose first position is known already: a call that scored its prompt saw it too."""

from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deltaserve.server.decoding.drafting.local import BlockDraft
from deltaserve.server.decoding.drafting.sources import Drafts
from deltaserve.server.decoding.protocols import Draft, Proposal
from deltaserve.server.decoding.sampling import Target

if TYPE_CHECKING:
    from deltaserve.server.decoding.decoder import Stream


@dataclass(slots=True)
class PrimedDrafts:
    """One known proposal, drawn at `temperature`; then another source's."""

    temperature: float | None
    known: Proposal | None
    then: Drafts
    _from_known: bool = False

    def open(self, stream: "Stream") -> AbstractAsyncContextManager[Draft]:
        known, self.known = self.known, None
        self._from_known = known is not None
        return self.then.open(stream) if known is None else nullcontext(BlockDraft(self.temperature, [known]))

    def observe(self, stream: "Stream", proposal: Proposal, target: Target, emitted: int, /) -> None:
        self.then.observe(stream, proposal, target, emitted)

    def ended(self, accepted: int, *, replaced: bool) -> None:
        if not self._from_known:
            self.then.ended(accepted, replaced=replaced)

    async def aclose(self) -> None:
        await self.then.aclose()
