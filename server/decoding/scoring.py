"""Corrected log-probabilities of tokens that are given, not drawn: by all that the black box told of each position."""

import asyncio
import math
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from deltaserve.server.decoding.correction import Corrected, TailPolicy, correct_given
from deltaserve.server.decoding.protocols import Floats, Ids, OffsetRow, OffsetSession, Proposal
from deltaserve.server.decoding.ranking import most_probable

_ROWS_AHEAD = 32  # rows asked for at a time: one pass of the pair, and what is held of them


@dataclass(frozen=True, slots=True)
class ScoredToken:
    """One token of a text, as `Step` tells of an emitted one, but by `correct_given`."""

    token_id: int
    logprob: float | None  # log q(token), nats, before penalties and temperature; None for the first: nothing precedes
    top: tuple[Ids, Floats] | None = None  # the most probable ids of q and their log q, descending; when asked for


async def score(
    token_ids: Sequence[int],
    lists: AsyncIterator[Sequence[Proposal]],
    session: OffsetSession,
    tail: TailPolicy,
    top: int,
) -> list[ScoredToken]:
    """Every token of a text; `lists` gives M's after token_ids[:i], i = 1, 2, … in order, in portions of any size.

    Raises what `lists` and `session` raise; a list that is missing is not made up for.
    """
    scored = [ScoredToken(token_ids[0], None)]
    _look_ahead(session, token_ids, 0)
    async for portion in lists:
        for first in range(0, len(portion), _ROWS_AHEAD):
            proposals = portion[first : first + _ROWS_AHEAD]
            given = token_ids[len(scored) : len(scored) + len(proposals)]
            rows = [await session.row(token_ids[: len(scored) + i]) for i in range(len(given))]
            _look_ahead(session, token_ids, len(scored) + len(given))
            scored += await asyncio.to_thread(_scores, given, proposals, rows, tail, top)
    if len(scored) != len(token_ids):
        raise ValueError("there are not as many lists as tokens")
    return scored


def _look_ahead(session: OffsetSession, token_ids: Sequence[int], known: int) -> None:
    """Let the pair compute the next rows while the black box, or the correction, works."""
    if known == 0:
        session.prefetch(token_ids[:1])  # of a fresh prompt only the last row is made
    if (last := min(known + _ROWS_AHEAD, len(token_ids) - 1)) > 0:
        session.prefetch(token_ids[:last])


def _scores(
    token_ids: Sequence[int], proposals: Sequence[Proposal], rows: Sequence[OffsetRow], tail: TailPolicy, top: int
) -> list[ScoredToken]:
    return [
        _score(token_id, correct_given(proposal, row, tail), top)
        for token_id, proposal, row in zip(token_ids, proposals, rows, strict=False)
    ]


def _score(token_id: int, corrected: Corrected, top: int) -> ScoredToken:
    if not math.isfinite(corrected.log_z):
        raise ArithmeticError("no id has any weight")
    if top == 0:
        return ScoredToken(token_id, corrected.log_q(token_id))
    ids, log_q = most_probable(corrected, top)
    listed = log_q[ids == token_id]  # one number for one token: clients compare them to see what is greedy
    return ScoredToken(token_id, float(listed[0]) if listed.size else corrected.log_q(token_id), (ids, log_q))
