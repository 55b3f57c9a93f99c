"""The arithmetic on rows that a session gives: the numpy core, on the event loop that asks."""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from deltaserve.server.decoding.correction import TailPolicy
from deltaserve.server.decoding.deciding.corrector import AnswerSpec, Corrector
from deltaserve.server.decoding.deciding.row_corrector import RowCorrector
from deltaserve.server.decoding.protocols import OffsetRow, Proposal
from deltaserve.server.decoding.scoring import ScoredToken, look_ahead, score_tokens


class RowSession(Protocol):
    """A `CorrectingSession` for whoever can give rows."""

    def prefetch(self, token_ids: Sequence[int]) -> None: ...
    async def row(self, token_ids: Sequence[int]) -> OffsetRow: ...
    def close(self) -> None: ...

    async def rows_behind(self, token_ids: Sequence[int], paths: Sequence[Sequence[int]]) -> list[OffsetRow]:
        return [await self.row([*token_ids, *path]) for path in paths]

    def corrector(self, answer: AnswerSpec) -> Corrector:
        return RowCorrector(self, answer)

    async def scores(
        self, token_ids: Sequence[int], start: int, proposals: Sequence[Proposal], tail: TailPolicy, top: int
    ) -> list[ScoredToken]:
        given = token_ids[start : start + len(proposals)]
        rows = [await self.row(token_ids[: start + i]) for i in range(len(given))]
        look_ahead(self, token_ids, start + len(given))
        return await asyncio.to_thread(score_tokens, given, proposals, rows, tail, top)
