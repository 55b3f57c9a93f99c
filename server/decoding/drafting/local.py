"""Local drafts: the pair proposes a block of tokens, and one upstream call tells M's list at each of its positions.

Each token is drawn from the target that the pair alone gives (K empty: p_o^{1−α}·p_u^α with the request's own
penalties, temperature and filters), so its draft distribution is known exactly and verification stays lossless.
Worth it where the black box is mostly overruled and the pair is not.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from deltaserve.server.decoding.correction import correct
from deltaserve.server.decoding.protocols import (
    NO_FLOATS,
    NO_IDS,
    BlockScorer,
    DraftParams,
    Floats,
    OffsetRow,
    Proposal,
)
from deltaserve.server.decoding.sampling import History, Target, target
from deltaserve.server.decoding.stream import Stream
from deltaserve.server.decoding.verification import verify

_UNKNOWN = Proposal(None, NO_IDS, NO_FLOATS)


@dataclass(frozen=True, slots=True)
class BlockToken:
    """One token of a block."""

    token_id: int
    row: OffsetRow
    drawn_from: Floats | None  # [V]; None for greedy and seeded streams, whose drafts are points


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

    def pending(self) -> Sequence[int]:
        return [proposal.token_id for proposal in self._proposals[self._at :] if proposal.token_id is not None]


def blind_target(row: OffsetRow, stream: Stream, history: History) -> Target:
    """q̃ as the pair alone sees it."""
    corrected = correct(_UNKNOWN, row, extra_ids=history.touched())
    return target(corrected, stream.params, history, stream.policy.guard)


async def propose(stream: Stream, length: int) -> list[BlockToken]:
    """Up to `length` tokens after the stream's ids, each a draw from the pair's own target; ends at a final id."""
    ids, history, block = list(stream.ids), stream.history.fork(), list[BlockToken]()
    for _ in range(min(length, stream.remaining)):
        row = await stream.session.row(ids)
        goal = blind_target(row, stream, history)
        token_id = verify(_UNKNOWN, goal, None, stream.noise, history.length)
        block.append(BlockToken(token_id, row, None if stream.point_drafts else goal.probs))
        ids.append(token_id)
        history.add(token_id)
        if token_id in stream.params.final_ids:
            break
        stream.session.prefetch(ids)
    return block


async def verified_block(stream: Stream, scorer: BlockScorer, tokens: Sequence[BlockToken]) -> BlockDraft:
    """The block with M's list at each position, fetched in one call; the last proposal is M's own draw after it."""
    params = DraftParams(stream.params.temperature, 1, stream.params.seed)
    block = await scorer.block(stream.ids, [token.token_id for token in tokens], params)
    proposals = [
        replace(listed, token_id=token.token_id, drawn_from=token.drawn_from, row=token.row)
        for token, listed in zip(tokens, block.proposals, strict=False)
    ]
    return BlockDraft(block.temperature, [*proposals, *block.proposals[len(tokens) :]])
