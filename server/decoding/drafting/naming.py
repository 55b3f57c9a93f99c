"""Asks the black box for ids by name, at the positions of a run where the tail may decide, within what is allowed."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from deltaserve.server.decoding.deciding.naming import NamesWanted, from_beside, left_as_it_is, with_names
from deltaserve.server.decoding.drafting.local import BlockDraft
from deltaserve.server.decoding.protocols import NO_IDS, Ids, NamedIds, Proposal
from deltaserve.server.decoding.stream import Stream

Names = Sequence[tuple[int, Ids]]  # (place in a run, ids that are wanted by name there)


@dataclass(frozen=True, slots=True)
class _Next:
    """What M says behind a prefix that the answer may come to."""

    prefix: list[int]
    proposals: Sequence[Proposal]


@dataclass(slots=True)
class Namer:
    """Of one stream. `calls_per_token`: of an answer, beside its first one; None: as many as are wanted."""

    box: NamedIds
    calls_per_token: float | None = None
    _next: _Next | None = field(default=None, init=False)

    async def named(self, stream: Stream, run: Sequence[Proposal], wanted: NamesWanted) -> list[Proposal]:
        """The run with what was told. Its first position is not asked about again. Raises UpstreamError.

        Of a run without lists nothing is left: the list of its first position is to be asked for.
        """
        if run[0].unlisted:
            stream.stats.wasted += len(run)
            return []
        if self._spent(stream):
            return [left_as_it_is(run[0]), *run[1:]]
        if (told := from_beside(run[0], wanted.names[0][1])) is not None:
            stream.stats.named_steps += 1  # within what is allowed, too: a seeded answer must not depend on who told
            return [told, *run[1:]]
        stream.stats.upstream_calls += 1
        if wanted.likely is not None and self.goes_on(stream):
            completed = await self._going_on(stream, run, wanted.names[0][1], wanted.likely)
        else:
            completed = await self._told(stream, run, wanted.names)
        stream.stats.named_calls += 1
        stream.stats.named_steps += 1  # one that failed is made again, as a seeded answer must not depend on faults
        return completed

    async def _told(self, stream: Stream, run: Sequence[Proposal], names: Names) -> list[Proposal]:
        completed = list(run)
        if self.calls_per_token is not None:
            names = names[:1]  # what is allowed must not depend on who drafts, nor on what arrives together
        names, ids = fitting(names, self.box.most)
        drafted = [proposal.token_id for proposal in run]
        prefixes = [[*stream.ids, *(i for i in drafted[:place] if i is not None)] for place, _ in names]
        for (place, own), logprobs in zip(names, await self.box.named(prefixes, ids), strict=True):
            # Of its own ids alone: a position's target does not depend on what was asked beside it.
            completed[place] = with_names(completed[place], own, logprobs[np.searchsorted(ids, own)])
        return completed

    async def _going_on(self, stream: Stream, run: Sequence[Proposal], ids: Ids, likely: int) -> list[Proposal]:
        """The same of the first position, and what M says behind the likely token. What else is behind it is dropped:
        whether a block of the pair had that token, too, must not matter."""
        told = await self.box.ahead(stream.ids, likely, ids, self._length(stream))
        self._next = _Next([*stream.ids, likely], told.proposals)
        completed = with_names(run[0], ids, told.logprobs)
        return [completed] if completed.token_id == likely else [completed, *run[1:]]

    def goes_on(self, stream: Stream) -> bool:
        """Whether calls of this stream may tell what follows a replaced token, so that no call is opened early."""
        params = stream.params
        plain = params.temperature == 0.0 and not params.biased and params.top_logprobs is None
        return plain and params.constraint is None and self.box.goes_on and self._length(stream) > 0

    async def in_first_call(self, stream: Stream) -> Ids | None:
        """What a draft's call may name from its beginning, so that no second one is needed at its first position.

        None where the black box does not tell it so, or nothing more is allowed. Raises OffsetUnavailable.
        """
        if not self.box.beside or stream.params.constraint is not None or self._spent(stream):
            return None
        names = await stream.corrector.lifted()
        if not names.size:
            return None
        ends = np.fromiter(stream.params.final_ids, np.int64) if stream.params.temperature > 0.0 else NO_IDS
        return np.union1d(names, ends)

    def ready(self, stream: Stream) -> bool:
        """Whether it was told how M goes on from here."""
        return self._next is not None and self._next.prefix == stream.ids

    def taken(self, stream: Stream) -> BlockDraft | None:
        """How M goes on from here, as far as it was told."""
        told, self._next = self._next, None
        return BlockDraft(0.0, told.proposals) if told is not None and told.prefix == stream.ids else None

    def _length(self, stream: Stream) -> int:
        naming = stream.policy.asking
        return min(naming.ahead if naming is not None else 0, stream.remaining - 1)

    def _spent(self, stream: Stream) -> bool:
        """By the answer's own tokens alone, so that a seed gives the same answer again."""
        allowed = self.calls_per_token
        return allowed is not None and stream.stats.named_steps > allowed * stream.emitted


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
