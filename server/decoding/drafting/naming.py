"""Asks the black box for ids by name, at the positions of a run where the tail may decide, within what is allowed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deltaserve.server.decoding.deciding.naming import left_as_it_is, with_names
from deltaserve.server.decoding.decoder import Names
from deltaserve.server.decoding.protocols import Ids, NamedIds, Proposal
from deltaserve.server.decoding.stream import Stream


@dataclass(frozen=True, slots=True)
class Namer:
    """`calls_per_token`: of an answer, beside its first one; None: as many as are wanted."""

    box: NamedIds
    calls_per_token: float | None = None

    async def named(self, stream: Stream, run: Sequence[Proposal], names: Names) -> list[Proposal]:
        """The run with what was told. Its first position is not asked about again. Raises UpstreamError."""
        completed = list(run)
        if self._spent(stream):
            completed[0] = left_as_it_is(completed[0])
            return completed
        if self.calls_per_token is not None:
            names = names[:1]  # what is allowed must not depend on who drafts, nor on what arrives together
        names, ids = fitting(names, self.box.most)
        drafted = [proposal.token_id for proposal in run]
        prefixes = [[*stream.ids, *(i for i in drafted[:place] if i is not None)] for place, _ in names]
        stream.stats.upstream_calls += 1
        for (place, own), logprobs in zip(names, await self.box.named(prefixes, ids), strict=True):
            # Of its own ids alone: a position's target does not depend on what was asked beside it.
            completed[place] = with_names(completed[place], own, logprobs[np.searchsorted(ids, own)])
        stream.stats.named_calls += 1  # one that failed is made again, as a seeded answer must not depend on faults
        return completed

    def _spent(self, stream: Stream) -> bool:
        """By the answer's own tokens alone, so that a seed gives the same answer again."""
        allowed = self.calls_per_token
        return allowed is not None and stream.stats.named_calls > allowed * stream.emitted


def fitting(names: Names, most: int) -> tuple[Names, Ids]:
    """The first position, those behind it whose ids still fit into `most` of one call, and all the ids, ascending."""
    first, *behind = names
    chosen, ids = [first], np.unique(first[1])
    for place, own in behind:
        union = np.union1d(ids, own)
        if union.size <= most:
            chosen.append((place, own))
            ids = union
    return chosen, ids
