"""One stream whose tokens the engine decides: its ids, penalties and noise, and the rows that wait for a decision.

A position is the number of ids before it. Ids up to `settled` are decided; those after it are proposals whose rows are
computed ahead, as if they were accepted.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from deltaserve.errors import BlindPosition
from deltaserve.offset_models.engine.answering.asking import Ask, Begin, DraftBlock, Look
from deltaserve.offset_models.engine.deciding.questions import Question
from deltaserve.offset_models.engine.forward.prefix import common_prefix
from deltaserve.offset_models.engine.streams import EngineStream
from deltaserve.server.decoding.deciding.blind import UNKNOWN
from deltaserve.server.decoding.deciding.corrector import Decision
from deltaserve.server.decoding.deciding.from_row import forced_decision
from deltaserve.server.decoding.history import History
from deltaserve.server.decoding.noise import Noise
from deltaserve.server.decoding.params import SamplingParams
from deltaserve.server.decoding.policy import Policy
from deltaserve.server.decoding.protocols import Proposal

# Accepted tokens after which the agreement with the pair is worked out once; behind a replaced one it always is.
_GREEDY_EVERY, _SAMPLED_EVERY = 4, 16


@dataclass(slots=True, eq=False)
class Block:
    """A block that the pair is drafting."""

    asked: DraftBlock
    history: History  # as if the block were accepted
    tokens: list[int] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Answer:
    """`drop` is called with the place of each row that is needed no more."""

    stream: EngineStream
    policy: Policy
    params: SamplingParams
    history: History
    noise: Noise
    settled: int
    max_ahead: int
    drop: Callable[[int], None]
    rows: dict[int, int] = field(default_factory=dict)  # place in the store, by position
    drafted: dict[int, Tensor] = field(default_factory=dict)  # what the pair's drafts were drawn from, by position
    ask: Ask | None = None
    looks: dict[type[Look], tuple[Look, int]] = field(default_factory=dict)  # one of a kind; what was settled then
    block: Block | None = None
    ended: bool = False
    accepted: int = 0
    replaced: bool = False  # the latest token was not the proposed one

    @classmethod
    def of(cls, begin: Begin, max_ahead: int, drop: Callable[[int], None]) -> "Answer":
        spec = begin.spec
        history = History(spec.params, spec.prompt_ids, spec.grammar)
        noise = Noise(spec.params.seed, spec.index)
        answer = cls(begin.stream, spec.policy, spec.params, history, noise, len(spec.prompt_ids), max_ahead, drop)
        answer.stream.follow(list(spec.prompt_ids), len(spec.prompt_ids))
        return answer

    @property
    def row_missing(self) -> bool:
        """Whether somebody waits for a row that is not there."""
        waits = self.ask is not None or any(at == self.settled for _, at in self.looks.values())
        return (waits and self.settled not in self.rows) or (self.block is not None and self._block_at not in self.rows)

    @property
    def _block_at(self) -> int:
        return self.settled + len(self.block.tokens) if self.block else self.settled

    def look_ahead(self, ids: list[int]) -> None:
        """Compute the rows after `ids`, which may follow what is settled; those of other ids are void."""
        stream = self.stream
        ids = ids[: min(self.max_ahead, stream.max_len - self.settled)]
        known = next((i for i, token_id in enumerate(ids) if not stream.knows(token_id)), len(ids))
        ahead = stream.ids[self.settled :]
        common = common_prefix(ahead, ids[:known]) if ahead else 0
        kept = self.settled + common
        stream.go_on(kept, ids[common:known])
        if len(ahead) > common:
            for position in [p for p in self.rows if p > kept]:
                self.drop(self.rows.pop(position))

    def questions(self) -> list[tuple[int, Question]]:
        """(place of the row, question) of the run's next positions whose rows are there. Raises BlindPosition."""
        ask = self.ask
        found: list[tuple[int, Question]] = []
        if ask is None:
            return found
        history, params = self.history, self.params
        for n, proposal in enumerate(ask.run):
            position = self.settled + n
            if position not in self.rows or not self._may_decide(proposal, first=not n):
                break
            if proposal.end_id is not None:
                params = params.ending_with(proposal.end_id)
                history = history.fork() if history is self.history and n else history
                history.now_with(params)
            found.append((self.rows[position], self._question(proposal, params, history, position, ask)))
            if proposal.token_id is None or n + 1 == len(ask.run):
                break
            history = history.fork()
            history.add(proposal.token_id)
            if history.void:
                break
        return found

    def _question(
        self, proposal: Proposal, params: SamplingParams, history: History, position: int, ask: Ask
    ) -> Question:
        self.accepted += 1
        every = _GREEDY_EVERY if params.temperature == 0.0 else _SAMPLED_EVERY
        return Question(
            proposal,
            params,
            self.policy,
            history,
            self.noise,
            ask.draft_temperature,
            observed=ask.observed,
            local=ask.observed and (self.replaced or self.accepted % every == 0),
            drawn_from=self.drafted.get(position) if proposal.local else None,
        )

    def _may_decide(self, proposal: Proposal, *, first: bool) -> bool:
        if proposal.top_ids.size or self.policy.allow_blind:
            return True
        if first:
            raise BlindPosition
        return False

    def block_question(self) -> tuple[int, Question] | None:
        """(place of the row, question) of the next token of a block, where its row is there."""
        block = self.block
        if block is None or self._block_at not in self.rows:
            return None
        keeps = self.params.temperature > 0.0 and not self.noise.seeded
        question = Question(UNKNOWN, self.params, self.policy, block.history, self.noise, None, keeps=keeps)
        return self.rows[self._block_at], question

    def drafted_one(self, token_id: int, drawn_from: Tensor | None) -> list[int] | None:
        """Take one token of a block; the whole block once it is complete."""
        block = self.block
        if block is None:
            raise ValueError("no block is being drafted")
        if drawn_from is not None:
            self.drafted[self._block_at] = drawn_from
        over = token_id in self.params.final_ids or (block.history.held and block.history.completes(token_id))
        block.tokens.append(token_id)
        block.history.add(token_id)
        full = len(block.tokens) >= block.asked.length or block.history.length >= self.params.max_tokens
        if not (full or over):
            self.look_ahead(block.tokens)
            if self._block_at <= len(self.stream.ids):
                return None
        self.block = None  # also where the next row cannot be computed: the context's end, an id without an embedding
        return block.tokens

    def take(self, proposal: Proposal, decision: Decision) -> bool:
        """Settle the next position; True where the run goes on behind it."""
        if proposal.end_id is not None:
            self.params = self.params.ending_with(proposal.end_id)
            self.history.now_with(self.params)
        self.replaced = decision.token_id != proposal.token_id
        self._settle(decision)
        return not (self.replaced or self.ended)

    def force(self) -> list[Decision]:
        """`Corrector.forced`: settle the positions that the constraint leaves no choice of."""
        decisions: list[Decision] = []
        while not self.ended and (decision := forced_decision(self.history, self.params)) is not None:
            decisions.append(decision)
            self._settle(decision)
        return decisions

    def _settle(self, decision: Decision) -> None:
        token_id = decision.token_id
        self.history.add(token_id)
        if (row := self.rows.pop(self.settled, None)) is not None:  # a forced token needs none
            self.drop(row)
        self.drafted.pop(self.settled, None)
        over = decision.ends or token_id in self.params.final_ids
        self.ended = over or self.history.length >= self.params.max_tokens
        ahead = self.stream.ids[self.settled + 1 :]
        follows = self.stream.ids[self.settled : self.settled + 1] == [token_id]
        if not self.ended:
            self.look_ahead([token_id, *ahead] if follows else [token_id])
        self.settled += 1

    def close(self) -> None:
        """Give every row back."""
        for place in self.rows.values():
            self.drop(place)
        self.rows.clear()
        self.drafted.clear()
