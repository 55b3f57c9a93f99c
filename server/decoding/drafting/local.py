"""Local drafts: the pair proposes a block of tokens, and one upstream call tells M's list at each of its positions.

Each token is drawn from the target that the pair alone gives (`deciding/blind.py`), so its draft distribution is known
exactly and verification stays lossless. Worth it where the black box is mostly overruled and the pair is not.
"""

from collections.abc import Sequence
from dataclasses import replace

from deltaserve.server.decoding.protocols import BlockScorer, DraftParams, Proposal
from deltaserve.server.decoding.stream import Stream


class BlockDraft:
    """A block whose lists have all arrived."""

    def __init__(self, temperature: float | None, proposals: Sequence[Proposal]) -> None:
        self.temperature = temperature
        self._proposals = proposals
        self._at = 0

    def __aiter__(self) -> "BlockDraft":
        return self

    async def __anext__(self) -> Proposal:
        if self._at == len(self._proposals):
            raise StopAsyncIteration
        self._at += 1
        return self._proposals[self._at - 1]

    def arrived(self) -> list[Proposal]:
        rest, self._at = list(self._proposals[self._at :]), len(self._proposals)
        return rest


async def verified_block(stream: Stream, scorer: BlockScorer, drafted: Sequence[int]) -> BlockDraft:
    """The block with M's list at each position, fetched in one call; the last proposal is M's own draw after it."""
    params = DraftParams(stream.params.temperature, 1, stream.params.seed, stream=stream.key)
    block = await scorer.block(stream.ids, drafted, params)
    proposals = [
        replace(listed, token_id=token_id, local=True)
        for token_id, listed in zip(drafted, block.proposals, strict=False)
    ]
    return BlockDraft(block.temperature, [*proposals, *block.proposals[len(drafted) :]])
