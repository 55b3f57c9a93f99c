"""The loop: proposals of the black box in, corrected tokens of one choice out."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Literal

from deltaserve.errors import BlindPosition, UpstreamError, UpstreamUnreachable
from deltaserve.server.decoding.correction import correct
from deltaserve.server.decoding.drafting.sources import Drafts
from deltaserve.server.decoding.explanation import Explanation, explain
from deltaserve.server.decoding.noise import Noise
from deltaserve.server.decoding.protocols import Draft, Floats, Ids, OffsetSession, Proposal
from deltaserve.server.decoding.ranking import most_probable
from deltaserve.server.decoding.sampling import History, SamplingParams, Target, target
from deltaserve.server.decoding.scoring import ScoredToken
from deltaserve.server.decoding.text import Detokenizer, StopStrings
from deltaserve.server.decoding.verification import verify

FinishReason = Literal["stop", "length"]

# Upstream calls in a row that may fail or give nothing before the answer fails.
_MAX_BARREN_CALLS = 3


@dataclass(frozen=True, slots=True)
class Step:
    """One emitted token and how it came about."""

    token_id: int
    proposed_id: int | None  # None: the upstream swallowed the position
    certified: bool | None  # greedy steps only
    tail_mass: float  # probability that M's list left out
    logprob: float | None = None  # log q(token), corrected, before penalties and temperature; when asked for
    top: tuple[Ids, Floats] | None = None  # the most probable ids of q and their log q, descending; when asked for
    explanation: Explanation | None = None  # when asked for
    local: bool = False  # proposed by the pair, not by the black box
    blind: bool = False  # the black box showed no list here: the pair alone decided

    @property
    def replaced(self) -> bool:
        return self.token_id != self.proposed_id


@dataclass(frozen=True, slots=True)
class Piece:
    """Text that may be shown now, with the steps that led to it; the first of a scored prompt has the prompt alone."""

    text: str
    steps: tuple[Step, ...]
    finish_reason: FinishReason | None = None
    stop_reason: int | str | None = None
    prompt: tuple[ScoredToken, ...] = ()


@dataclass(slots=True)
class StreamStats:
    """What one choice cost and how exact it was."""

    upstream_calls: int = 0
    upstream_faults: int = 0
    proposed: int = 0  # by the black box; its own stream and the last token of each block
    accepted: int = 0
    replaced: int = 0
    local_proposed: int = 0  # by the pair
    local_accepted: int = 0
    swallowed: int = 0  # positions whose token the upstream never showed
    blind: int = 0  # positions without a list, swallowed or in a block: drawn from the pair alone
    wasted: int = 0  # proposals that had arrived and were void
    block_positions: int = 0  # positions of locally drafted blocks that the black box scored
    early_calls: int = 0  # of the upstream calls, those opened where a restart was expected
    early_used: int = 0
    certified: int = 0
    tail_mass_sum: float = 0.0
    guarded: int = 0  # steps whose target a guard narrowed


@dataclass(slots=True)
class Stream:
    """One choice: its ids, its pinned offset session, its randomness, its text."""

    prompt_ids: Sequence[int]
    params: SamplingParams
    session: OffsetSession
    detokenizer: Detokenizer
    index: int = 0
    stats: StreamStats = field(default_factory=StreamStats)
    ids: list[int] = field(init=False)
    history: History = field(init=False)
    noise: Noise = field(init=False)
    stops: StopStrings = field(init=False)
    finish_reason: FinishReason | None = field(init=False, default=None)
    stop_reason: int | str | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.ids = list(self.prompt_ids)
        self.history = History(self.params, self.prompt_ids)
        self.noise = Noise(self.params.seed, self.index)
        self.stops = StopStrings(self.params.stop)

    @property
    def emitted(self) -> int:
        return self.history.length

    @property
    def finished(self) -> bool:
        return self.finish_reason is not None

    def decide(self, proposal: Proposal, goal: Target, draft_temperature: float | None) -> Step:
        """The step at this position: an exact draw from the target."""
        corrected = goal.corrected
        token_id = verify(proposal, goal, draft_temperature, self.noise, self.emitted)
        self.stats.guarded += goal.params is not self.params
        greedy = self.params.temperature == 0.0
        wanted = self.params.top_logprobs
        return Step(
            token_id,
            proposal.token_id,
            goal.certified if greedy else None,
            corrected.tail_mass,
            None if wanted is None else corrected.log_q(token_id),
            most_probable(corrected, wanted) if wanted else None,
            explain(corrected, self.params.explain) if self.params.explain else None,
            proposal.row is not None,
            not proposal.top_ids.size,
        )

    def learn_end(self, token_id: int) -> None:
        """The black box ends its answers with this token: it ends this one too, though not before `min_tokens`."""
        if token_id not in self.params.eos_ids:
            self.params = replace(self.params, eos_ids=self.params.eos_ids | {token_id})
            self.history.now_with(self.params)

    def advance(self, step: Step) -> Step:
        """Take the step: ids, penalties, counts, the end."""
        self.ids.append(step.token_id)
        self.history.add(step.token_id)
        self._count(step)
        if step.token_id in self.params.final_ids:
            self.finish_reason = "stop"
            self.stop_reason = self.params.stop_reason(step.token_id)
        elif self.emitted >= self.params.max_tokens:
            self.finish_reason = "length"
        else:
            self.session.prefetch(self.ids)
        return step

    def _count(self, step: Step) -> None:
        stats = self.stats
        stats.tail_mass_sum += step.tail_mass
        stats.certified += bool(step.certified)
        stats.blind += step.blind
        if step.proposed_id is None:
            stats.swallowed += 1
            return
        if step.local:
            stats.local_proposed += 1
            stats.local_accepted += not step.replaced
            return
        stats.proposed += 1
        stats.accepted += not step.replaced
        stats.replaced += step.replaced


async def decode(stream: Stream, drafts: Drafts) -> AsyncGenerator[Step, None]:
    """Corrected tokens of one choice; every yielded token is an exact draw from the corrected target.

    Raises UpstreamError when the black box fails for good, OffsetUnavailable when the pair does.
    """
    try:
        async with aclosing(_drafted(stream, drafts)) as steps:
            async for step in steps:
                yield step
    finally:
        await drafts.aclose()


async def _drafted(stream: Stream, drafts: Drafts) -> AsyncGenerator[Step, None]:
    """Draft after draft, until the answer ends."""
    barren = 0
    while not stream.finished:
        before = stream.emitted
        try:
            async with aclosing(_one_draft(stream, drafts)) as steps:
                async for step in steps:
                    yield step
            fault: UpstreamError = UpstreamUnreachable("the black box ended its answer without a token")
        except UpstreamError as error:
            if not (error.retryable or isinstance(error, BlindPosition)):
                raise
            stream.stats.upstream_faults += 1
            fault = error
        barren = 0 if stream.emitted > before else barren + 1
        if barren >= _MAX_BARREN_CALLS:
            raise fault


async def _one_draft(stream: Stream, drafts: Drafts) -> AsyncGenerator[Step, None]:
    """Steps of one draft: up to its end, or up to the first token that differs from what it proposed."""
    stream.session.prefetch(stream.ids)
    accepted = 0
    async with drafts.open(stream) as draft:
        async for proposal in draft:
            if proposal.end_id is not None:
                stream.learn_end(proposal.end_id)
            goal = await _target(stream, draft, proposal)
            step = stream.decide(proposal, goal, draft.temperature)
            drafts.observe(stream, proposal, goal, step.token_id)
            yield stream.advance(step)
            if step.replaced or stream.finished:
                stream.stats.wasted += len(draft.pending())
                drafts.ended(accepted, replaced=step.replaced)
                return
            accepted += 1
    drafts.ended(accepted, replaced=False)


async def _target(stream: Stream, draft: Draft, proposal: Proposal) -> Target:
    if not (proposal.top_ids.size or stream.params.blind):
        raise BlindPosition(
            "The black box did not show which tokens it considers at a position of this answer, not even when asked "
            "again: nothing can be corrected there. The setting allow_blind lets the pair alone decide such positions."
        )
    row = proposal.row
    if row is None:
        pending = draft.pending()
        if pending and proposal.token_id is not None:  # the black box is ahead: score what has arrived in one go
            stream.session.prefetch([*stream.ids, proposal.token_id, *pending])
        row = await stream.session.row(stream.ids)
    policy = stream.params.tail if proposal.top_ids.size else "impute"  # of a blind position there is nothing but tail
    corrected = correct(proposal, row, policy, stream.history.touched())
    return target(corrected, stream.params, stream.history)


async def generate(stream: Stream, drafts: Drafts) -> AsyncGenerator[Piece, None]:
    """Steps as text: whole characters, stop strings applied. Closing it closes the upstream call."""
    waiting: list[Step] = []
    async with aclosing(decode(stream, drafts)) as steps:
        async for step in steps:
            waiting.append(step)
            text = _shown(stream, step)
            if text or stream.finished:
                yield Piece(text, tuple(waiting), stream.finish_reason, stream.stop_reason)
                waiting.clear()
            if stream.finished:
                return


def _shown(stream: Stream, step: Step) -> str:
    """Text of this step that may be shown; a matched stop string finishes the stream."""
    final = step.token_id in stream.params.final_ids
    text = "" if final else stream.detokenizer.step(step.token_id)
    if stream.finished:
        text += stream.detokenizer.flush()
    shown = stream.stops.push(text, early=stream.emitted <= stream.params.min_tokens)
    if stream.stops.matched is not None:
        stream.finish_reason, stream.stop_reason = "stop", stream.stops.matched
    elif stream.finished:
        shown += stream.stops.flush()
    return shown
