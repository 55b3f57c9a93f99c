"""Corrected log-probabilities of tokens that are given, not drawn: by all that the black box told of each position."""

import math
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from deltaserve.server.decoding.correction import Corrected, TailPolicy, correct_given
from deltaserve.server.decoding.protocols import Floats, Ids, OffsetRow, Proposal
from deltaserve.server.decoding.ranking import most_probable

ROWS_AHEAD: Final = 32  # rows asked for at a time: one pass of the pair, and what is held of them


@dataclass(frozen=True, slots=True)
class ScoredToken:
    """One token of a text, as `Step` tells of an emitted one, but by `correct_given`."""

    token_id: int
    logprob: float | None  # log q(token), nats, before penalties and temperature; None for the first: nothing precedes
    top: tuple[Ids, Floats] | None = None  # the most probable ids of q and their log q, descending; when asked for


class Scorer(Protocol):
    """One stream's place in the engine, as scoring needs it."""

    def prefetch(self, token_ids: Sequence[int]) -> None:
        """Start computing the rows of every prefix up to and including `token_ids`; returns at once."""

    async def scores(
        self, token_ids: Sequence[int], start: int, proposals: Sequence[Proposal], tail: TailPolicy, top: int
    ) -> list[ScoredToken]:
        """Corrected log-probabilities of the given tokens token_ids[start:start + len(proposals)], as far as there are.

        `proposals` hold M's lists at those positions, at most ROWS_AHEAD. Calls of one text come in order, `start` ≥ 1.
        """


async def score(
    token_ids: Sequence[int],
    lists: AsyncIterator[Sequence[Proposal]],
    session: Scorer,
    tail: TailPolicy,
    top: int,
) -> list[ScoredToken]:
    """Every token of a text; `lists` gives M's after token_ids[:i], i = 1, 2, … in order, in portions of any size.

    Raises what `lists` and `session` raise; a list that is missing is not made up for.
    """
    scored = [ScoredToken(token_ids[0], None)]
    session.prefetch(token_ids[:1])  # of a fresh prompt only the last row is made
    look_ahead(session, token_ids, 0)
    async for portion in lists:
        for first in range(0, len(portion), ROWS_AHEAD):
            scored += await session.scores(token_ids, len(scored), portion[first : first + ROWS_AHEAD], tail, top)
    if len(scored) != len(token_ids):
        raise ValueError("there are not as many lists as tokens")
    return scored


def look_ahead(session: Scorer, token_ids: Sequence[int], known: int) -> None:
    """Let the pair compute the next rows while the black box, or the correction, works."""
    if (last := min(known + ROWS_AHEAD, len(token_ids) - 1)) > 0:
        session.prefetch(token_ids[:last])


def score_tokens(
    token_ids: Sequence[int], proposals: Sequence[Proposal], rows: Sequence[OffsetRow], tail: TailPolicy, top: int
) -> list[ScoredToken]:
    """What `Scorer.scores` gives, from the rows of these positions."""
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
