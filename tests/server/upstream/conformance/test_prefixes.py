"""A dialect's list is the one after exactly the ids that were emitted, whatever kind of token they end in."""

import pytest

from deltaserve.errors import MalformedTopK
from tests.server.upstream.conformance.rows import (
    CUTS_TEXT,
    PARTS,
    Row,
    drafted,
    each_row,
    opened,
    require_exact,
    sent_prefixes,
)
from tests.support.standins.oracle import KINDS, PROMPT, TOKENIZER

pytestmark = [pytest.mark.anyio, each_row]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_call_goes_on_behind_exactly_the_tokens_that_were_emitted_or_not_at_all(row: Row, kind: str) -> None:
    prefix = [*PROMPT, *KINDS[kind]]
    async with opened(row) as (box, replay):
        if kind not in row.refuses_after:
            (proposal,) = await drafted(box, prefix)
            require_exact(proposal, prefix)
            return
        (proposal,) = await drafted(box, prefix)
    assert proposal.bridged
    if proposal.top_ids.size:  # it was made to draw them again
        require_exact(proposal, prefix)
    assert proposal.token_id is None
    for sent in sent_prefixes(replay, row, box):  # from before those tokens, never with another reading of them
        assert sent == prefix[: len(sent)] and len(sent) < len(prefix)


@pytest.mark.parametrize("kind", KINDS)
async def test_tokens_that_no_text_says_are_crossed_where_it_draws_them_again(row: Row, kind: str) -> None:
    prefix = [*PROMPT, *KINDS[kind]]
    if kind not in row.refuses_after or row.hides_tokens:
        return
    start = next(n for n in range(len(prefix), 0, -1) if TOKENIZER.encode(TOKENIZER.decode(prefix[:n])) == prefix[:n])
    async with opened(row, script=prefix[start:]) as (box, _):
        proposals = await drafted(box, prefix, 2)
    if kind in CUTS_TEXT and not proposals[0].top_ids.size:
        return  # it does not say which part of a character it drew
    for proposal in proposals:
        assert proposal.bridged
        require_exact(proposal, prefix)
        if proposal.token_id is None:
            break
        prefix.append(proposal.token_id)


@pytest.mark.parametrize("kind", KINDS)
async def test_each_token_of_an_answer_comes_with_the_list_at_its_own_position(row: Row, kind: str) -> None:
    script = [*KINDS[kind], ord("z"), ord("!")]
    prefix, shown = list(PROMPT), []
    async with opened(row, script=script) as (box, _):
        for proposal in await drafted(box, prefix, len(script)):
            if proposal.token_id is None and not proposal.top_ids.size:
                break  # nothing is known here, and nothing may follow
            require_exact(proposal, prefix)
            shown.append(proposal.token_id)
            prefix.append(script[len(shown) - 1])
            if proposal.token_id is None:
                break
    may_hide = row.hides_tokens or (row.refuses_after and kind in PARTS)
    assert (
        shown == script
        or (row.counted and shown == script[:-1])
        or (may_hide and shown[:-1] == script[: len(shown) - 1] and shown[-1] is None)
    )


async def test_a_prompt_that_was_shortened_is_seen_where_prompts_are_counted(row: Row) -> None:
    if not row.facts.get("counts_prompts"):
        return  # ids are counted by nobody
    async with opened(row, script=list(b"It"), shortens=2) as (box, _):
        with pytest.raises(MalformedTopK, match="read another prompt"):
            await drafted(box, tokens=2)
