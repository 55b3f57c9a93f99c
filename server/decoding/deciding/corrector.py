"""Where the tokens of a stream are decided: beside the pair's rows, which may lie on a device or in another process."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from deltaserve.server.decoding.constraints.grammar import Grammar
from deltaserve.server.decoding.explanation import Explanation
from deltaserve.server.decoding.params import SamplingParams
from deltaserve.server.decoding.policy import Policy
from deltaserve.server.decoding.protocols import Floats, Ids, OffsetRow, OffsetSession, Proposal
from deltaserve.server.decoding.scoring import Scorer


@dataclass(frozen=True, slots=True)
class AnswerSpec:
    """What decides the tokens of one choice, black box and pair aside."""

    prompt_ids: Sequence[int]
    params: SamplingParams
    policy: Policy = field(default_factory=Policy)
    index: int = 0  # among the choices of its prompt: with the seed it decides the noise
    grammar: Grammar | None = None  # of `params.constraint`, compiled; where rows are elsewhere it is compiled there


@dataclass(frozen=True, slots=True)
class Agreement:
    """Chances that a draft is accepted at one position, whoever drafted it."""

    upstream: float  # the black box's own draw
    local: float | None  # the pair's; None where it was not worked out


@dataclass(slots=True)  # not frozen: one is made for every token, and that takes a third of the time
class Decision:
    """One corrected token and how it came about."""

    token_id: int
    certified: bool | None  # greedy steps only
    tail_mass: float  # probability that M's list left out
    logprob: float | None = None  # log q(token), corrected, before penalties and temperature; when asked for
    top: tuple[Ids, Floats] | None = None  # the most probable ids of q and their log q, descending; when asked for
    explanation: Explanation | None = None  # when asked for
    guarded: bool = False  # a guard narrowed the target
    agreement: Agreement | None = None  # when asked for
    forced: bool = False  # the constraint allows no other token here
    ends: bool = False  # the constraint allows nothing behind it


class Corrector(Protocol):
    """Decides one choice's tokens, one after the other. It keeps the ids, the penalties and the noise of the choice."""

    def prefetch(self) -> None:
        """Start computing the row of the next position; returns at once."""

    async def decide(
        self, run: Sequence[Proposal], draft_temperature: float | None, *, observed: bool = False
    ) -> list[Decision]:
        """The next tokens, at least one: up to the first that is not the proposed one, or that ends the answer.

        `draft_temperature` is that of the draft; `observed`: the agreement is wanted.
        Raises OffsetUnavailable where the pair cannot answer; BlindPosition where the first proposal has no list, and
        NamesWanted where it is to be completed before it is decided (at a later one either ends the run instead).
        """

    async def forced(self) -> list[Decision]:
        """The next tokens, as far as the constraint leaves no choice of them, whatever black box and pair say."""

    async def expected(self) -> int | None:
        """The token that the pair alone chooses next, where its offset is strong; None where the black box may be right
        or the stream went on meanwhile."""

    async def lifted(self) -> Ids:
        """The ids that are most likely to be asked for by name at the next position, ascending; none where the stream
        went on meanwhile, or its policy names none."""

    async def draft(self, length: int) -> list[int]:
        """Up to `length` tokens that the pair alone would say next; ends at a final id. What they were drawn from is
        kept for the proposals that are marked as `local`."""


class CorrectingSession(Scorer, Protocol):
    """One stream's place in the engine, with the arithmetic that needs its rows. The rows stay where they are."""

    def corrector(self, answer: AnswerSpec) -> Corrector:
        """Who decides this answer's tokens; it ends with the session."""

    def close(self) -> None:
        """Give the place back at once; work not yet started is dropped."""


class PairSession(CorrectingSession, OffsetSession, Protocol):
    """A session beside the pair, which can show its rows."""

    async def rows_behind(self, token_ids: Sequence[int], paths: Sequence[Sequence[int]]) -> list[OffsetRow]:
        """The rows after `token_ids` and each of these ways on. Raises as `row`."""
