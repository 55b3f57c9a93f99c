"""The end of an answer: what ended it, that it was the end, and that its counts add up."""

import pytest

from deltaserve.errors import MalformedTopK, UpstreamError
from tests.server.upstream.conformance.rows import Row, drafted, each_row, opened, require_exact
from tests.support.standins.oracle import END, PROMPT, SIZE, readable

pytestmark = [pytest.mark.anyio, each_row]

ANSWER = readable(PROMPT, 3)


async def test_the_end_token_comes_with_its_list_where_the_server_shows_it(row: Row) -> None:
    async with opened(row, script=[*ANSWER, END]) as (box, _):
        proposals = await drafted(box, tokens=8)
    if row.counted:  # where the end is asked about again the stand-in does not know of its script
        proposals = proposals[: len(ANSWER) - (proposals[len(ANSWER) - 1].token_id is None)]
    prefix = [*PROMPT]
    for proposal, token in zip(proposals, [*ANSWER, END], strict=False):
        require_exact(proposal, prefix)
        assert proposal.token_id == token or (token == END and row.hides_end)  # which its usage counts
        prefix.append(token)
    shown = [proposal for proposal in proposals if proposal.token_id is not None]
    assert row.counted or len(shown) == len(ANSWER) + (not row.hides_end)
    if not row.hides_end:
        assert proposals[-1].end_id == END
        assert END in box.capabilities.end_ids
    assert all(proposal.end_id is None for proposal in proposals[: len(ANSWER)])


async def test_an_answer_that_ran_out_of_tokens_has_no_end(row: Row) -> None:
    async with opened(row, script=ANSWER) as (box, _):
        proposals = await drafted(box, tokens=3)
        assert box.capabilities.end_ids == ()
    shown = [(proposal.token_id, proposal.end_id) for proposal in proposals]
    assert shown == [(i, None) for i in ANSWER] or (
        row.counted and shown == [*((i, None) for i in ANSWER[:2]), (None, None)]
    )


async def test_a_special_token_that_comes_last_by_chance_is_no_end(row: Row) -> None:
    async with opened(row, script=[*ANSWER[:2], SIZE - 1]) as (box, _):
        try:
            proposals = await drafted(box, tokens=3)
        except UpstreamError:
            proposals = []  # what has no text may be unknown where tokens are texts
        assert box.capabilities.end_ids == ()
    assert all(proposal.end_id is None for proposal in proposals)


async def test_an_answer_that_ends_at_once_is_told_by_its_list_alone_where_the_end_is_not_shown(row: Row) -> None:
    async with opened(row, script=[END]) as (box, _):
        (proposal,) = await drafted(box, tokens=8)
    if not row.hides_end:
        require_exact(proposal, PROMPT)
        assert (proposal.token_id, proposal.end_id) == (END, END)
        return
    assert proposal.token_id is None  # nobody knows what it drew
    if proposal.top_ids.size:
        require_exact(proposal, PROMPT)


async def test_usage_that_counts_fewer_tokens_than_were_shown_is_refused(row: Row) -> None:
    async with opened(row, script=ANSWER, counts=-1) as (box, _):
        with pytest.raises(MalformedTopK):
            await drafted(box, tokens=3)


async def test_a_token_that_only_the_usage_counts_is_asked_for_again_or_refused(row: Row) -> None:
    """One of the answer's positions seems to be missing: nobody knows which, so nothing is put in its place."""
    async with opened(row, script=[*ANSWER, END], counts=1) as (box, _):
        try:
            proposals = await drafted(box, tokens=8)
        except MalformedTopK:
            return
    assert proposals[-1].token_id is None
