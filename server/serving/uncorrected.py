"""The black box's own answer, for the playground: its tokens as they come, through the loop that corrects otherwise.

Each proposal's list is cut down to the proposed token alone, so that the target is that token whatever the sampling.
Only for routes behind the admin key.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import numpy as np

from deltaserve.errors import UpstreamError
from deltaserve.server.decoding.deciding.corrector import CorrectingSession
from deltaserve.server.decoding.deciding.row_session import RowSession
from deltaserve.server.decoding.drafting.upstream import UpstreamSource
from deltaserve.server.decoding.protocols import (
    Draft,
    DraftParams,
    Floats,
    Ids,
    OffsetRow,
    Proposal,
    Upstream,
)
from deltaserve.server.decoding.rows import NumpyRow
from deltaserve.server.serving.ports import Tokenizer, Version


class ZeroSession(RowSession):
    """A session without a pair: nothing is added to any of the `vocab_size` ids."""

    def __init__(self, vocab_size: int) -> None:
        self._row = NumpyRow(np.full(vocab_size, -np.log(vocab_size)), np.zeros(vocab_size))

    def prefetch(self, token_ids: Sequence[int]) -> None:
        """There is nothing to compute."""

    async def row(self, token_ids: Sequence[int]) -> OffsetRow:  # noqa: ARG002  (the same after every prefix)
        return self._row

    def close(self) -> None:
        """There is nothing to give back."""


@dataclass(frozen=True, slots=True)
class Uncorrected:
    """The `Version` whose tokenizer and context an uncorrected answer shares."""

    version: Version

    @property
    def name(self) -> str:
        return self.version.name

    @property
    def fingerprint(self) -> str:
        return self.version.fingerprint

    @property
    def tokenizer(self) -> Tokenizer:
        return self.version.tokenizer

    @property
    def max_context(self) -> int:
        return self.version.max_context

    @property
    def pair_tokenizer(self) -> Tokenizer | None:
        return None  # no pair is asked

    async def open(
        self,
        timeout_s: float,  # noqa: ARG002  (no engine, no waiting)
        pair_prompt: Sequence[int] | None = None,  # noqa: ARG002
    ) -> CorrectingSession:
        return ZeroSession(self.tokenizer.vocab_size)

    def source(self, upstream: Upstream) -> UpstreamSource:
        """The draft source of an uncorrected stream."""
        return UpstreamSource(OwnChoice(upstream, self.tokenizer.vocab_size))


@dataclass(frozen=True, slots=True)
class OwnChoice:
    """An `Upstream` that lists nothing but what it chose."""

    upstream: Upstream
    vocab_size: int

    @asynccontextmanager
    async def draft(self, token_ids: Sequence[int], params: DraftParams) -> AsyncGenerator[Draft, None]:
        async with self.upstream.draft(token_ids, params) as draft:
            yield _OwnChoice(draft, self.vocab_size)


@dataclass(slots=True)
class _OwnChoice:
    """A draft of certain tokens."""

    draft: Draft
    vocab_size: int
    temperature: float | None = field(init=False, default=None)

    def arrived(self) -> list[Proposal]:
        return []

    async def __aiter__(self) -> AsyncIterator[Proposal]:
        async for proposal in self.draft:
            yield Proposal(*self._certain(proposal), end_id=proposal.end_id)

    def _certain(self, proposal: Proposal) -> tuple[int, Ids, Floats]:
        """Where the upstream swallowed its choice, its likeliest token. Raises UpstreamError where it told nothing."""
        listed = proposal.top_ids.tolist()
        chosen = listed[0] if proposal.token_id is None and listed else proposal.token_id
        if chosen is None or chosen >= self.vocab_size:
            raise UpstreamError("The black box did not say which token it chose, so its own answer cannot be shown.")
        return chosen, np.array([chosen], np.int64), np.zeros(1)
