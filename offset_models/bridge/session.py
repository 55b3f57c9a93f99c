"""One stream of a black box whose tokenizer is not the pair's: rows of its vocabulary, from rows of the pair's."""

import asyncio
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final

import numpy as np

from deltaserve.errors import BadRequest, NoOffset, OffsetUnavailable
from deltaserve.offset_models.bridge.bridge import Bridge
from deltaserve.offset_models.bridge.candidates import Candidates
from deltaserve.offset_models.bridge.neighbours import Path
from deltaserve.offset_models.bridge.position import Position
from deltaserve.offset_models.bridge.probabilities import node_row
from deltaserve.offset_models.bridge.row import BridgedRow, bridged_row
from deltaserve.offset_models.bridge.stakes import Stakes
from deltaserve.server.decoding.correction import TailPolicy
from deltaserve.server.decoding.deciding.corrector import AnswerSpec, Corrector, Decision, PairSession
from deltaserve.server.decoding.deciding.row_corrector import RowCorrector
from deltaserve.server.decoding.deciding.row_session import RowSession
from deltaserve.server.decoding.protocols import Floats, Ids, OffsetRow, Proposal
from deltaserve.server.decoding.scoring import ScoredToken, score_tokens

_WITHIN: Final = "The offset's tokenizer is not the black box's: the prompt of such a chat cannot be scored."
_LEFT_OUT: Final = 0.02  # of the black box's probability, that listed tokens without an offset may have together
_NONE: Final = "The pair of another tokenizer has no offset for the token that would come next: the answer ends here."
_KEPT: Final = 8  # places of the last positions, with their rows: a block of drafts is looked at twice


class BridgedSession(RowSession):
    """Belongs to one event loop. Each of `inner` gives rows of one pair's own vocabulary at strength 1."""

    def __init__(
        self,
        inner: Sequence[PairSession],
        bridge: Bridge,
        strengths: Sequence[float],
        pair_prompt: Sequence[int] | None = None,
    ) -> None:
        """`pair_prompt`: the prompt in the pair's own tokens, where the black box's are more than text."""
        self._inner = inner
        self._bridge = bridge
        self._strengths = strengths
        self._pair_prompt = pair_prompt
        self._prompt: list[int] | None = None  # the black box's ids that it stands for, once an answer begins
        self._ids: list[int] = []  # of the black box, behind which the latest place is
        self._places: dict[int, Position] = {}  # by number of those ids, ascending; the first is the prompt's
        self._asking = asyncio.Lock()  # the inner session follows one path at a time
        self.rows = 0  # of the pair, asked for so far

    def corrector(self, answer: AnswerSpec) -> Corrector:
        self._prompt = list(answer.prompt_ids)
        return BridgedCorrector(self, answer)

    def prefetch(self, token_ids: Sequence[int]) -> None:
        """Starts with the first row that is missing; a fault is raised by who asks for the row."""
        if self._pair_prompt is not None and self._prompt is None:
            self._look_ahead(self._pair_prompt)
            return
        if self._asking.locked() or not token_ids:
            return
        with suppress(BadRequest, OffsetUnavailable):
            at = self._place(token_ids)
            for path in at.missing()[:1]:
                self._look_ahead(at.settled)  # first: of a fresh prompt only the last row is made
                self._look_ahead([*at.settled, *path])

    def _look_ahead(self, pair_ids: Sequence[int]) -> None:
        for session in self._inner:
            session.prefetch(pair_ids)

    async def row(self, token_ids: Sequence[int]) -> OffsetRow:
        return await self.row_of(token_ids, ())

    async def row_of(
        self, token_ids: Sequence[int], listed: Iterable[int], ends: Iterable[int] = (), stakes: Stakes | None = None
    ) -> BridgedRow:
        """The row behind these ids, exact at the listed ones. Raises OffsetUnavailable, BadRequest for the prompt.

        `ends`: what ends this answer. The black box may use marks for it that its tokenizer's files do not tell of.
        `stakes`: how a token will be chosen; then only those that can matter are exact.
        """
        if not token_ids:
            raise BadRequest("The prompt must have at least one token.")
        async with self._asking:
            at = self._place(token_ids)
            await self._run(at, at.missing())
            marks = dict.fromkeys((*self._marks(ends), *self._bridge.reader.ends), at.ending().numpy())
            before, words, bridge = at.reach(), self._words(listed), self._bridge
            candidates = Candidates(at, before.numpy(), words, marks, stakes, self._strengths)
            while paths := candidates.wanted():
                await self._run(at, paths)
            self._shed(len(token_ids))
            told = {token_id: each.least for token_id, each in candidates.told.items()} | marks
            exact = [*candidates.exact, *marks]
            at.reading = at.reading or bridge.reader.read(at.open_nodes(), bridge.masked)
            return bridged_row(at.reading, before, told, exact, self._strengths)

    async def scores(
        self, token_ids: Sequence[int], start: int, proposals: Sequence[Proposal], tail: TailPolicy, top: int
    ) -> list[ScoredToken]:
        given = token_ids[start : start + len(proposals)]
        rows = [
            await self.row_of(token_ids[: start + i], (*proposals[i].top_ids.tolist(), given[i]))
            for i in range(len(given))
        ]
        if any(row.untold[token_id] for row, token_id in zip(rows, given, strict=True)):
            raise NoOffset(_NONE)
        scored = await asyncio.to_thread(score_tokens, given, proposals, rows, tail, top)
        return [replace(token, top=_told(token.top, row)) for token, row in zip(scored, rows, strict=True)]

    @property
    def masked(self) -> Sequence[int]:
        """Ids that are no tokens of the black box, though its model has them."""
        return self._bridge.masked

    def count(self, token_ids: Sequence[int], breaks: int) -> int:
        """A token was decided behind these ids; returns the breaks before it. `breaks`: those counted so far."""
        now, figures = self._places[len(token_ids)].breaks, self._bridge.figures
        figures.bridged_tokens += 1
        figures.bridged_breaks += max(0, now - breaks)
        return now

    def close(self) -> None:
        self._places.clear()
        for session in self._inner:
            session.close()

    def _words(self, listed: Iterable[int]) -> dict[int, bytes]:
        """Bytes of the listed ids that are text."""
        spellings = self._bridge.box.vocabulary.spellings
        known = {i: spellings[i] for i in listed if 0 <= i < len(spellings)}
        return {token_id: word for token_id, word in known.items() if word}

    def _marks(self, ids: Iterable[int]) -> list[int]:
        """Those that are no text."""
        spellings = self._bridge.box.vocabulary.spellings
        return [i for i in ids if 0 <= i < len(spellings) and not spellings[i]]

    def _shed(self, current: int) -> None:
        """Of places that the answer has passed the rows of candidates go; the next place has taken what it needs."""
        for n, at in self._places.items():
            if n < current - 1:
                at.shed()

    def _place(self, token_ids: Sequence[int]) -> Position:
        """The place behind these ids; it goes on from the nearest one before. Its rows may be missing."""
        self._follow(token_ids)
        n = len(token_ids)
        if n not in self._places:
            before = max((m for m in self._places if m < n), default=None)
            self._places[n] = self._begun(token_ids) if before is None else self._gone_on(token_ids, before)
            self._forget(n)
        return self._places[n]

    def _begun(self, token_ids: Sequence[int]) -> Position:
        """The first place. Without a prompt of the pair's own, all of these ids are one."""
        if self._pair_prompt is None:
            return self._bridge.begin(token_ids)
        if self._prompt is None or list(token_ids[: len(self._prompt)]) != self._prompt:
            raise BadRequest(_WITHIN)
        at = self._bridge.begin_behind(self._pair_prompt)
        for token_id in token_ids[len(self._prompt) :]:
            at.go_on(self._bridge.said(token_id))
        return at

    def _follow(self, token_ids: Sequence[int]) -> None:
        """Drops the places behind other ids; those behind more of the same ids stay."""
        kept = _common(self._ids, token_ids)
        if kept < min(len(self._ids), len(token_ids)):
            self._places = {n: at for n, at in self._places.items() if n <= kept}
        if kept < len(token_ids):
            self._ids = list(token_ids)

    def _gone_on(self, token_ids: Sequence[int], known: int) -> Position:
        before = self._places[known]
        at = replace(before, settled=list(before.settled), rows=dict(before.rows))
        for token_id in token_ids[known:]:
            at.go_on(self._bridge.said(token_id))
        return at

    def _forget(self, current: int) -> None:
        """Beside the last few places only the first stays, which is the prompt's, without its rows."""
        first, *others = sorted(self._places)
        for n in others[:-_KEPT]:
            if n != current:
                del self._places[n]
        if len(others) > _KEPT and first != current:
            self._places[first].rows.clear()

    async def _run(self, at: Position, paths: Collection[Path]) -> None:
        """Computes the rows of these paths behind what is settled."""
        if not paths:
            return
        ways = list(paths)
        asked = [session.rows_behind(at.settled, ways) for session in self._inner]
        told = [await asked[0]] if len(asked) == 1 else await asyncio.gather(*asked)
        for path, *rows in zip(ways, *told, strict=True):
            at.rows[path] = node_row(rows, self._bridge.pair.vocabulary, self._bridge.ends)
        self.rows += len(ways)
        self._bridge.figures.bridged_rows += len(ways)


class BridgedCorrector(RowCorrector):
    """Listed tokens are corrected exactly; a drawn one beside them is not: the target must not depend on the draw.

    A token without an offset is never emitted. Where the black box gives such tokens next to nothing, they have no part
    in the target; else they have their share, and a draw of one ends the answer: another one would be made up.
    """

    def __init__(self, session: BridgedSession, answer: AnswerSpec) -> None:
        super().__init__(session, answer)
        self._bridged = session
        self._row: BridgedRow | None = None  # the latest one that a token was decided from
        self._refused: int | None = None  # the number of ids behind which the answer ends
        self._breaks = 0  # counted so far

    async def _decide(self, proposal: Proposal, draft_temperature: float | None, observed: bool) -> Decision:
        if self._refused == len(self.ids):  # not drawn anew: what is drawn instead would have more than its share
            raise NoOffset(_NONE)
        decision = await super()._decide(proposal, draft_temperature, observed)
        row = self._row
        if row is not None and row.untold[decision.token_id] and not decision.forced:
            self._refused = len(self.ids)
            raise NoOffset(_NONE)
        return decision if row is None else replace(decision, top=_told(decision.top, row))

    async def _row_at(self, proposal: Proposal, drafted: OffsetRow | None) -> OffsetRow:  # noqa: ARG002
        listed, stakes = proposal.top_ids.tolist(), self._stakes(proposal)
        row = await self._bridged.row_of(self.ids, listed, self.params.eos_ids, stakes)
        untold = row.untold[proposal.top_ids] & (not self.history.held)
        if untold.any() and float(np.exp(proposal.top_logprobs[untold]).sum()) <= _LEFT_OUT:
            row = row.without(proposal.top_ids[untold])
        self._row = row
        self._breaks = self._bridged.count(self.ids, self._breaks)
        return self._row

    async def _drafting_row(self, row: OffsetRow) -> OffsetRow:  # noqa: ARG002
        return await self._bridged.row(self.ids)  # a block is drafted before anything is listed

    def _stakes(self, proposal: Proposal) -> Stakes | None:
        """None where more than the token itself is told or asked of the candidates, or the same text is promised."""
        params, policy = self.params, self.policy
        told = params.top_logprobs is not None or policy.explain or policy.guard is not None
        if told or params.biased or self.noise.seeded or self.history.length < params.min_tokens:
            return None
        ids, allowed = proposal.top_ids, self.history.allowed()
        possible = ~np.isin(ids, self._bridged.masked) & (True if allowed is None else allowed.at(ids))
        logprobs = np.where(possible, proposal.top_logprobs, -np.inf)
        return Stakes(ids, logprobs, params.temperature, counted=policy.asking is not None)


def _told(top: tuple[Ids, Floats] | None, row: BridgedRow) -> tuple[Ids, Floats] | None:
    """The most probable tokens without those that have no offset."""
    if top is None:
        return None
    ids, log_q = top
    kept = ~row.untold[ids]
    return ids[kept], log_q[kept]


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    """How many ids both begin with."""
    shorter = min(len(a), len(b))
    if list(a[:shorter]) == list(b[:shorter]):
        return shorter
    return next(n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y)
