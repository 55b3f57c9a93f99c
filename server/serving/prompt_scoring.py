"""The use case of scoring: a prompt's tokens with their corrected log-probabilities."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from deltaserve.server.decoding.correction import TailPolicy
from deltaserve.server.decoding.decoder import DraftSource
from deltaserve.server.decoding.drafting.local import BlockDraft
from deltaserve.server.decoding.drafting.primed import PrimedSource
from deltaserve.server.decoding.params import SamplingParams
from deltaserve.server.decoding.protocols import Block, DraftParams, Proposal
from deltaserve.server.decoding.scoring import ScoredToken, Scorer, score
from deltaserve.server.decoding.stream import StreamStats
from deltaserve.server.upstream.base import UpstreamSession


@dataclass(slots=True)
class PromptScoring:
    """One prompt to be scored, and continued where tokens are wanted."""

    upstream: UpstreamSession
    prompt_ids: Sequence[int]
    params: SamplingParams
    tail: TailPolicy
    stats: StreamStats
    max_context: int | None  # tokens that the black box takes, prompt and answer; None: not known
    _last: Block | None = field(init=False, default=None)

    async def run(self, session: Scorer) -> tuple[ScoredToken, ...]:
        """All tokens of the prompt. Raises UpstreamError, OffsetUnavailable."""
        async with aclosing(self._lists()) as lists:
            top = self.params.top_logprobs or 0
            return tuple(await score(self.prompt_ids, lists, session, self.tail, top))

    def primed(self, source: DraftSource) -> DraftSource:
        """`source` after the position that scoring has seen already."""
        if self._last is None:
            return source
        return PrimedSource(BlockDraft(self._last.temperature, [self._last.proposals[-1]]), source)

    async def _lists(self) -> AsyncGenerator[Sequence[Proposal], None]:
        params = DraftParams(self.params.temperature, 1, self.params.seed)
        goes_on, positions = self.params.max_tokens > 0, 0
        portions = self.upstream.prompt_lists(self.prompt_ids, params, goes_on=goes_on, max_context=self.max_context)
        async with aclosing(portions):
            async for block, calls in portions:
                self.stats.upstream_calls += calls
                positions += len(block.proposals)
                if goes_on and positions == len(self.prompt_ids):  # the one after the whole prompt, too
                    self._last = block
                yield block.proposals
