"""Decides tokens from rows in host memory, or from single numbers of rows elsewhere: the numpy core, step by step."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from deltaserve.errors import BadRequest, BlindPosition, DeltaserveError
from deltaserve.server.decoding.deciding.agreement import local_agreement, upstream_agreement
from deltaserve.server.decoding.deciding.blind import UNKNOWN, blind_target, expected_token
from deltaserve.server.decoding.deciding.corrector import Agreement, AnswerSpec, Decision
from deltaserve.server.decoding.deciding.from_row import decide_from_row, forced_decision, goal_at
from deltaserve.server.decoding.deciding.naming import NamesWanted, likely_names, names_wanted
from deltaserve.server.decoding.deciding.verification import verify
from deltaserve.server.decoding.history import History
from deltaserve.server.decoding.noise import Noise
from deltaserve.server.decoding.protocols import NO_IDS, Floats, Ids, OffsetRow, OffsetSession, Proposal
from deltaserve.server.decoding.sampling import Target

# Of so many accepted steps the agreement with the pair is worked out once: that takes passes over the vocabulary.
_GREEDY_EVERY, _SAMPLED_EVERY = 8, 16


@dataclass(frozen=True, slots=True)
class _Drafted:
    """One token of the pair's own block."""

    token_id: int
    row: OffsetRow
    drawn_from: Floats | None  # [V]; None for greedy and seeded streams, whose drafts are points


class RowCorrector:
    """A `Corrector` over a session's rows, on the session's event loop."""

    def __init__(self, session: OffsetSession, answer: AnswerSpec) -> None:
        self.params, self.policy = answer.params, answer.policy
        self.ids = list(answer.prompt_ids)
        self.history = History(self.params, answer.prompt_ids, answer.grammar)
        self.noise = Noise(self.params.seed, answer.index)
        self._session = session
        self._observed = 0
        self._block: dict[int, _Drafted] = {}  # by the number of ids before

    def prefetch(self) -> None:
        self._session.prefetch(self.ids)

    async def decide(
        self, run: Sequence[Proposal], draft_temperature: float | None, *, observed: bool = False
    ) -> list[Decision]:
        if len(run) > 1 and not run[0].local:  # the black box is ahead: score what has arrived in one go
            self._session.prefetch(self.ids + [p.token_id for p in run if p.token_id is not None])
        decisions: list[Decision] = []
        for proposal in run:
            if not self._may_decide(proposal, first=not decisions):
                break
            try:
                decision = await self._decide(proposal, draft_temperature, observed)
            except NamesWanted as wanted:
                if decisions:
                    break  # they are wanted as of the first position of the next run
                raise NamesWanted([*wanted.names, *self._wanted_behind(run)], wanted.likely) from None
            except (DeltaserveError, ArithmeticError):
                if not decisions:
                    raise
                break  # what is decided already is said first; the next call meets the error again
            decisions.append(decision)
            replaced = decision.token_id != proposal.token_id
            if self._take(decision, ahead=replaced or len(decisions) == len(run)) or replaced:
                break
        return decisions

    async def forced(self) -> list[Decision]:
        decisions: list[Decision] = []
        while (decision := forced_decision(self.history, self.params)) is not None:
            decisions.append(decision)
            if self._take(decision, ahead=False):
                break
        return decisions

    async def expected(self) -> int | None:
        ids = list(self.ids)
        row = await self._session.row(ids)
        return expected_token(row, self._blind(row, self.history)) if self.ids == ids else None

    async def lifted(self) -> Ids:
        ids, naming = list(self.ids), self.policy.asking
        if naming is None:
            return NO_IDS
        row = await self._session.row(ids)
        return likely_names(row, naming) if self.ids == ids else NO_IDS

    async def draft(self, length: int) -> list[int]:
        self._block.clear()
        ids, history = list(self.ids), self.history.fork()
        for _ in range(min(length, self.params.max_tokens - history.length)):
            row = await self._session.row(ids)
            try:
                goal = self._blind(row, history)
                token_id = verify(UNKNOWN, goal, None, self.noise, history.length)
                over = token_id in self.params.final_ids or (history.held and history.completes(token_id))
            except (BadRequest, ArithmeticError):
                if len(ids) == len(self.ids):
                    raise
                break  # nothing can follow this draft, which need not become the answer
            point = self.params.temperature == 0.0 or self.noise.seeded
            self._block[len(ids)] = _Drafted(token_id, row, None if point else goal.probs)
            ids.append(token_id)
            history.add(token_id)
            if over:
                break
            self._session.prefetch(ids)
        return ids[len(self.ids) :]

    def _blind(self, row: OffsetRow, history: History) -> Target:
        return blind_target(row, self.params, history, self.policy.guard)

    def _may_decide(self, proposal: Proposal, *, first: bool) -> bool:
        """Whether something is known of this position. Raises BlindPosition for the first of a run, of which it is not.

        A later one is asked about again, as the first of the next run.
        """
        if proposal.top_ids.size or self.policy.allow_blind:
            return True
        if not first:
            return False
        raise BlindPosition

    async def _decide(self, proposal: Proposal, draft_temperature: float | None, observed: bool) -> Decision:
        if proposal.end_id is not None:
            self._learn_end(proposal.end_id)
        drafted = self._block.get(len(self.ids)) if proposal.local else None
        if drafted is not None:
            proposal = replace(proposal, drawn_from=drafted.drawn_from)
        row = await self._row_at(proposal, None if drafted is None else drafted.row)
        decision, goal = decide_from_row(
            row, proposal, self.params, self.policy, self.history, self.noise, draft_temperature
        )
        if not observed:
            return decision
        agreement = await self._agreement(goal, proposal, decision.token_id, draft_temperature, drafted)
        return replace(decision, agreement=agreement)

    async def _row_at(self, proposal: Proposal, drafted: OffsetRow | None) -> OffsetRow:  # noqa: ARG002
        """The row that a proposal is decided from; `drafted`: the one that the pair drafted it from."""
        return await self._session.row(self.ids) if drafted is None else drafted

    async def _drafting_row(self, row: OffsetRow) -> OffsetRow:
        """What the pair would draft from here, without a list; `row` is the one that the token is decided from."""
        return row

    async def _agreement(
        self,
        goal: Target,
        proposal: Proposal,
        emitted: int,
        draft_temperature: float | None,
        drafted: _Drafted | None,
    ) -> Agreement:
        """Of both sources, also the one that was not asked.

        Where a token was replaced the next draft is about to be chosen: what the pair would have done counts there.
        """
        seeded, guessed = self.noise.seeded, draft_temperature is None
        accepted = emitted == proposal.token_id
        upstream = upstream_agreement(goal, proposal, emitted, seeded, guessed=guessed, roughly=accepted)
        self._observed += 1
        every = _GREEDY_EVERY if self.params.temperature == 0.0 else _SAMPLED_EVERY
        if accepted and self._observed % every:
            return Agreement(upstream, None)
        row = await self._drafting_row(goal.corrected.row) if drafted is None else drafted.row
        return Agreement(upstream, local_agreement(goal, self._blind(row, self.history), seeded))

    def _wanted_behind(self, run: Sequence[Proposal]) -> Iterator[tuple[int, Ids]]:
        """The same of the pair's own block behind its first position, as if it were accepted: one call asks for all."""
        ids, history = list(self.ids), self.history.fork()
        for place, (before, proposal) in enumerate(pairwise(run), 1):
            if before.token_id is None:
                return
            ids.append(before.token_id)
            history.add(before.token_id)
            if history.void:
                return
            drafted = self._block.get(len(ids)) if proposal.local else None
            if drafted is None:
                return
            goal = goal_at(drafted.row, proposal, self.params, self.policy, history)
            if (names := names_wanted(proposal, goal, self.policy.asking)).size:
                yield place, names

    def _learn_end(self, token_id: int) -> None:
        self.params = self.params.ending_with(token_id)
        self.history.now_with(self.params)

    def _take(self, decision: Decision, *, ahead: bool) -> bool:
        """Go on behind a token; True where it ends the answer. `ahead`: nobody asked for the next row yet."""
        token_id = decision.token_id
        self._block.pop(len(self.ids), None)
        self.ids.append(token_id)
        self.history.add(token_id)
        over = decision.ends or token_id in self.params.final_ids
        if over or self.history.length >= self.params.max_tokens:
            return True
        if ahead:
            self.prefetch()
        return False
