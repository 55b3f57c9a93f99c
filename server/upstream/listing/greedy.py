"""The black box's own greedy answer, with its list at every position: usually one streamed call."""

from collections.abc import Collection, Sequence

from deltaserve.errors import MalformedTopK
from deltaserve.server.decoding.protocols import DraftParams, Proposal
from deltaserve.server.upstream.base import BlackBox


async def greedy_answer(
    box: BlackBox, prompt: Sequence[int], max_tokens: int, end_ids: Collection[int]
) -> tuple[list[int], list[Proposal]]:
    """The most probable token after the most probable token, until an end token (kept) or `max_tokens`; their lists.

    Raises UpstreamError.
    """
    ends = {*end_ids, *box.capabilities.end_ids}
    ids: list[int] = []
    lists: list[Proposal] = []
    while len(ids) < max_tokens and not (ids and ids[-1] in ends):
        before = len(ids)
        async with box.draft([*prompt, *ids], DraftParams(0.0, max_tokens - before)) as draft:
            async for proposal in draft:
                if not proposal.top_ids.size:
                    break
                if proposal.end_id is not None:
                    ends.add(proposal.end_id)
                lists.append(proposal)
                ids.append(int(proposal.top_ids[0]))
                # What was drawn may be another token: swallowed, or drawn at temperature 1 where lists are processed.
                if ids[-1] in ends or ids[-1] != proposal.token_id:
                    break
        if len(ids) == before:
            raise MalformedTopK("The upstream stops before it shows an end token or a list.")
    return ids, lists
