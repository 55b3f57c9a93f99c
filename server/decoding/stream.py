"""One choice while it is generated: its ids, its randomness, its text, and the steps that it is made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from uuid import uuid4

from deltaserve.server.decoding.constraints.grammar import Grammar
from deltaserve.server.decoding.deciding.corrector import AnswerSpec, CorrectingSession, Corrector, Decision
from deltaserve.server.decoding.explanation import Explanation
from deltaserve.server.decoding.output.segments import Segment, Segmenter
from deltaserve.server.decoding.output.text import Detokenizer, StopStrings
from deltaserve.server.decoding.params import FinishReason, SamplingParams
from deltaserve.server.decoding.policy import Policy
from deltaserve.server.decoding.protocols import Floats, Ids, Proposal
from deltaserve.server.decoding.scoring import ScoredToken


@dataclass(frozen=True, slots=True)
class Step:
    """One emitted token and how it came about."""

    token_id: int
    proposed_id: int | None  # None: the black box did not show what it drew here
    certified: bool | None  # greedy steps only
    tail_mass: float  # probability that M's list left out
    logprob: float | None = None  # log q(token), corrected, before penalties and temperature; when asked for
    top: tuple[Ids, Floats] | None = None  # the most probable ids of q and their log q, descending; when asked for
    explanation: Explanation | None = None  # when asked for
    local: bool = False  # proposed by the pair, not by the black box
    blind: bool = False  # the black box showed no list here: the pair alone decided
    forced: bool = False  # the answer's constraint allowed no other token here
    ends: bool = False  # the constraint allows nothing behind it

    @property
    def replaced(self) -> bool:
        return self.token_id != self.proposed_id


@dataclass(frozen=True, slots=True)
class Piece:
    """Text that can be sent, with the steps that led to it. A scored prompt comes in a first piece of its own.

    `segments`: the text where a parser reads it, cut at the tokens that it wants to see; else none.
    """

    text: str
    steps: tuple[Step, ...]
    finish_reason: FinishReason | None = None
    stop_reason: int | str | None = None
    prompt: tuple[ScoredToken, ...] = ()
    segments: tuple[Segment, ...] = ()


@dataclass(slots=True)
class StreamStats:
    """What one choice cost and how exact it was."""

    emitted: int = 0
    upstream_calls: int = 0
    upstream_faults: int = 0
    proposed: int = 0  # by the black box; its own stream and the last token of each block
    accepted: int = 0
    replaced: int = 0
    local_proposed: int = 0  # by the pair
    local_accepted: int = 0
    forced: int = 0  # tokens that a constraint left no choice of, for which nobody was asked
    swallowed: int = 0  # positions whose token the upstream never showed
    blind: int = 0  # positions without a list, swallowed or in a block: drawn from the pair alone
    wasted: int = 0  # proposals that had arrived and were void
    block_positions: int = 0  # positions of locally drafted blocks that the black box scored
    early_calls: int = 0  # of the upstream calls, those opened where a restart was expected
    early_used: int = 0
    named_calls: int = 0  # of the upstream calls, those that asked for ids by name
    named_steps: int = 0  # how often names were told: by such a call, or by a draft's own
    certified: int = 0
    tail_mass_sum: float = 0.0
    guarded: int = 0  # steps whose target a guard narrowed
    unnamed: int = 0  # steps whose list named fewer tokens than it held
    bridged: int = 0  # steps behind a prefix that is no text, for which M was asked from an earlier one

    def count(self, step: Step) -> None:
        """Count one emitted token."""
        self.emitted += 1
        self.tail_mass_sum += step.tail_mass
        self.certified += bool(step.certified)
        self.blind += step.blind
        if step.proposed_id is None:
            self.forced += step.forced
            self.swallowed += not step.forced
        elif step.local:
            self.local_proposed += 1
            self.local_accepted += not step.replaced
        else:
            self.proposed += 1
            self.accepted += not step.replaced
            self.replaced += step.replaced


@dataclass(slots=True)
class Stream:
    """The state of one choice. It belongs to one offset session, whose version never changes."""

    prompt_ids: Sequence[int]
    params: SamplingParams
    session: CorrectingSession
    detokenizer: Detokenizer
    index: int = 0
    stats: StreamStats = field(default_factory=StreamStats)
    policy: Policy = field(default_factory=Policy)
    grammar: Grammar | None = None  # of `params.constraint`, compiled
    wanted: Mapping[int, str] | None = None  # tokens that a parser wants to see, and their texts; None: none reads it
    ids: list[int] = field(init=False)
    key: str = field(init=False, default_factory=lambda: uuid4().hex)  # says nothing of what is asked
    corrector: Corrector = field(init=False)
    stops: StopStrings = field(init=False)
    segmenter: Segmenter | None = field(init=False)
    finish_reason: FinishReason | None = field(init=False, default=None)
    stop_reason: int | str | None = field(init=False, default=None)
    without_form: bool = field(init=False, default=False)  # the black box is not sent the constraint, or not any more

    def __post_init__(self) -> None:
        self.ids = list(self.prompt_ids)
        spec = AnswerSpec(self.prompt_ids, self.params, self.policy, self.index, self.grammar)
        self.corrector = self.session.corrector(spec)
        self.stops = StopStrings(self.params.stop, shown=self.params.shows_stop)
        self.segmenter = None if self.wanted is None else Segmenter(self.wanted)

    @property
    def emitted(self) -> int:
        return len(self.ids) - len(self.prompt_ids)

    @property
    def remaining(self) -> int:
        """Tokens that the answer may still have."""
        return self.params.max_tokens - self.emitted

    @property
    def point_drafts(self) -> bool:
        """Whether a draft is accepted where it equals our own draw, so that it does not matter how it was drawn."""
        return self.params.temperature == 0.0 or self.params.seed is not None

    @property
    def form(self) -> str | None:
        """The grammar that the black box may be sent with the next call; None where it could not keep to it.

        Its grammar begins with the first token that it draws, and so must ours. It knows neither words that are banned
        nor that an end is to be passed over. Text that is free at first needs no form to begin with.
        """
        params, constraint = self.params, self.params.constraint
        if constraint is None or self.emitted or self.without_form or (self.grammar and self.grammar.may_be_empty):
            return None
        unknown = bool(constraint.after) or params.words is not None or params.ignore_eos
        return None if unknown else constraint.grammar

    @property
    def needs_whole_lists(self) -> bool:
        return self.policy.needs_whole_lists(self.params)

    @property
    def finished(self) -> bool:
        return self.finish_reason is not None

    def step(self, proposal: Proposal, decision: Decision) -> Step:
        """The step that a decision about this position makes."""
        if proposal.end_id is not None:
            self.params = self.params.ending_with(proposal.end_id)
        self.stats.guarded += decision.guarded
        self.stats.unnamed += proposal.log_cap is not None and not (proposal.named or proposal.unlisted)
        self.stats.bridged += proposal.bridged
        return Step(
            decision.token_id,
            proposal.token_id,
            decision.certified,
            decision.tail_mass,
            decision.logprob,
            decision.top,
            decision.explanation,
            proposal.local,
            not proposal.top_ids.size,
            decision.forced,
            decision.ends,
        )

    async def forced(self) -> list[Step]:
        """The next tokens, where a constraint leaves no choice of them. Not where more is told of each."""
        if self.params.constraint is None or self.params.top_logprobs is not None or self.policy.explain:
            return []
        return [
            Step(decision.token_id, None, decision.certified, 0.0, forced=True, ends=decision.ends)
            for decision in await self.corrector.forced()
        ]

    def advance(self, step: Step) -> Step:
        """Take the step: ids, counts, the end."""
        self.ids.append(step.token_id)
        self.stats.count(step)
        if step.token_id in self.params.final_ids:
            self.finish_reason = "stop"
            self.stop_reason = self.params.stop_reason(step.token_id)
        elif step.ends:
            self.finish_reason = "stop"
        elif self.emitted >= self.params.max_tokens:
            self.finish_reason = "length"
        return step

    def text_of(self, step: Step) -> str:
        """Text that can be sent after this step. A stop string that is complete now finishes the stream."""
        final = step.token_id in self.params.final_ids
        text = "" if final else self.detokenizer.step(step.token_id)
        stop = self.params.stop_tokens.get(step.token_id, "") if final and self.params.shows_stop else ""
        if self.segmenter is not None and not stop:  # one that is shown is text, and no mark beside it
            self.segmenter.decoded(step.token_id, text)
        if self.finished:
            text += self.detokenizer.flush()
        text += stop
        text = self.stops.push(text, early=self.emitted <= self.params.min_tokens)
        if self.stops.matched is not None:
            self.finish_reason, self.stop_reason = "stop", self.stops.matched
        elif self.finished:
            text += self.stops.flush()
        return text

    def segments_of(self, text: str) -> tuple[Segment, ...]:
        """Text that can be sent, as a parser reads it. It is asked once for the text of each step."""
        return () if self.segmenter is None else self.segmenter.cut(text, last=self.finished)
