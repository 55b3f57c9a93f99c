"""Lists: order, completeness, limits, the temperature they were taken at; and what contradicts itself is refused."""

from collections.abc import Callable, Mapping
from typing import Final

import pytest

from deltaserve.errors import BlindPosition, UncorrectableUpstream, UpstreamError
from deltaserve.server.upstream.probing.connect import connect
from tests.server.upstream.conformance.rows import KEY, K, Row, drafted, each_row, opened, require_exact
from tests.support.replay import replaying
from tests.support.standins.base import Position
from tests.support.standins.oracle import PROMPT, SIZE, TOKENIZER, readable

pytestmark = [pytest.mark.anyio, each_row]

ANSWER: Final = readable(PROMPT, 4)
Spoil = Callable[[Position], None]


def _cut(position: Position) -> None:
    del position.ids[-1], position.logprobs[-1]


def _without_one_of_the_best(position: Position) -> None:
    at = position.ids.index(next(i for i in position.ids if i != position.drawn))
    del position.ids[at], position.logprobs[at]


def _emptied(position: Position) -> None:
    position.ids, position.logprobs = [], []


def _no_number(position: Position) -> None:
    position.logprobs[1] = None  # type: ignore[call-overload]


def _above_zero(position: Position) -> None:
    position.logprobs = [value + 9.0 for value in position.logprobs]
    position.own += 9.0


def _another_number(position: Position) -> None:
    position.own -= 1.5


def _of_an_id_that_is_none(position: Position) -> None:
    position.ids[-1] = SIZE + 7


def _unlisted(position: Position) -> None:
    position.listed = False


SPOILED: Final[Mapping[str, Spoil]] = {
    "one too few": _cut,
    "one of the best left out": _without_one_of_the_best,
    "nothing listed": _emptied,
    "no number": _no_number,
    "numbers above zero": _above_zero,
    "two numbers of one token": _another_number,
    "no list at all": _unlisted,
}


@pytest.mark.parametrize("rank", [0, 3, K - 1, K, K + 4])
async def test_the_list_is_whole_and_in_order_whatever_was_drawn(row: Row, rank: int) -> None:
    async with opened(row, rank=rank) as (box, _):
        proposals = await drafted(box, tokens=4, temperature=1.0)
    prefix = list(PROMPT)
    for proposal in proposals:
        require_exact(proposal, prefix)
        if proposal.token_id is None:
            break
        prefix.append(proposal.token_id)
    assert len(proposals) == 4 or row.hides_tokens


@pytest.mark.parametrize("at", [0, 2])
@pytest.mark.parametrize("name", SPOILED)
async def test_a_spoiled_list_is_never_served_nor_is_what_follows_it(row: Row, name: str, at: int) -> None:
    def spoil(answer: list[Position]) -> None:
        if at < len(answer):  # an answer of one token comes of asking again
            SPOILED[name](answer[at])

    prefix = list(PROMPT)
    async with opened(row, spoil=spoil, script=ANSWER) as (box, _):
        with pytest.raises(UpstreamError):
            for proposal in await drafted(box, tokens=4):
                if not proposal.top_ids.size:
                    raise BlindPosition  # as the core does
                require_exact(proposal, prefix)
                if proposal.token_id is None:
                    raise BlindPosition  # it was asked again: nothing else of this answer counts
                prefix.append(proposal.token_id)


async def test_a_limit_of_k_is_found_and_kept(row: Row) -> None:
    stand_in = row.stand_in(max_k=3, key=KEY)
    async with replaying(stand_in) as replay:
        box = await connect(replay.url, tokenizer=TOKENIZER, key=KEY, k=K, model="tiny", **row.how)
        (proposal,) = await drafted(box)
        await box.aclose()
    assert box.capabilities.dialect == row.dialect
    k = 3 - box.spare if row.limits_k else K
    assert box.capabilities.k == k
    require_exact(proposal, PROMPT, k)


@pytest.mark.parametrize("processed", [False, True])
async def test_it_is_found_out_whether_lists_are_taken_after_the_temperature(row: Row, processed: bool) -> None:
    async with replaying(row.stand_in(processed=processed)) as replay:
        box = await connect(replay.url, tokenizer=TOKENIZER, k=K, **row.how)
        assert box.capabilities.raw_logprobs is not processed
        for temperature in (0.0, 0.5, 1.0):
            (proposal,) = await drafted(box, temperature=temperature)
            require_exact(proposal, PROMPT, box.capabilities.k)
        await box.aclose()


async def test_a_server_that_changes_its_prompts_is_refused(row: Row) -> None:
    """It goes on behind its own template, not behind what it said: only the second call shows it."""
    stand_in = row.stand_in(templated=True)
    async with replaying(stand_in) as replay:
        with pytest.raises(UncorrectableUpstream, match="changes prompts"):
            await connect(replay.url, tokenizer=TOKENIZER, k=K, **row.how)
