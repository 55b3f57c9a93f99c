"""A toy world for the core: a black box, a pair and a vocabulary of a few ids, with known logits for every prefix."""

import zlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import takewhile
from typing import Literal

import numpy as np

from deltaserve.server.decoding.constraints.constraint import Constraint
from deltaserve.server.decoding.constraints.grammar import Grammar
from deltaserve.server.decoding.constraints.matching import Matcher, Place
from deltaserve.server.decoding.deciding.naming import unlisted
from deltaserve.server.decoding.deciding.row_session import RowSession
from deltaserve.server.decoding.params import SamplingParams
from deltaserve.server.decoding.policy import Policy
from deltaserve.server.decoding.protocols import NO_FLOATS, NO_IDS, Ahead, Block, DraftParams, Floats, Ids, Proposal
from deltaserve.server.decoding.rows import NumpyRow
from deltaserve.server.decoding.stream import Stream
from tests.support.letters import END, compiled


def log_softmax(logits: Floats) -> Floats:
    shifted = logits - logits.max()
    return shifted - np.log(np.exp(shifted).sum())


def toy_logprobs(name: str, token_ids: Sequence[int], size: int) -> Floats:
    """Log-probabilities of model `name` after a prefix: any fixed function of both."""
    return _toy_logprobs(name, tuple(token_ids[-3:]), size)


@cache
def _toy_logprobs(name: str, ending: tuple[int, ...], size: int) -> Floats:
    seed = zlib.crc32(f"{name}{ending}".encode())
    made = log_softmax(np.random.default_rng(seed).normal(0.0, 2.0, size))
    made.flags.writeable = False
    return made


@dataclass
class ToyForm:
    """A call's way through the grammar that was sent with it."""

    matcher: Matcher
    place: Place
    masks: bool  # its lists are of what is allowed alone
    same: bool  # how it draws is known
    forbids: frozenset[int] = frozenset()

    def held(self, logprobs: Floats) -> Floats:
        """Log-probabilities given what is allowed."""
        follow = self.matcher.follow(self.place)
        mask = follow.text.wide(logprobs.size).copy()
        mask[END] = follow.accepting
        mask[list(self.forbids)] = False
        return log_softmax(np.where(mask, logprobs, -np.inf))

    def take(self, token_id: int) -> None:
        self.place = self.place.then(token_id)


@dataclass
class ToyDraft:
    temperature: float | None
    proposals: list[Proposal]
    burst: int  # proposals that arrive together
    close: Callable[[], None]
    at: int = 0

    def arrived(self) -> list[Proposal]:
        """The rest of a burst, up to a token that is not shown."""
        burst_end = -(-self.at // self.burst) * self.burst
        taken = list(takewhile(lambda p: p.token_id is not None, self.proposals[self.at : burst_end]))
        self.at += len(taken)
        return taken

    async def __aiter__(self) -> AsyncIterator[Proposal]:
        while self.at < len(self.proposals):
            self.at += 1
            yield self.proposals[self.at - 1]


@dataclass
class ToyBlackBox:
    """Draws ahead like a real server: the whole draft is fixed when the call is opened."""

    size: int = 12
    k: int = 5
    burst: int = 1
    eos_id: int | None = None
    tells_end: bool = False  # which token it ends with
    draws_at: float | None = None  # the temperature really drawn at, when it is not the one asked for
    swallow: Callable[[int], str | None] = lambda position: None  # "hole": list but no token; "blind": nothing
    hides: frozenset[int] = frozenset()  # drawn ones are not shown, only the list is
    trusted: bool = True  # its drafts say at what temperature they are drawn
    forms: Literal["", "masked", "unmasked"] = ""  # it keeps to a grammar that it is sent, and lists so
    forbids: frozenset[int] = frozenset()  # under a grammar, too: its engine is another one
    calls: list[tuple[list[int], DraftParams]] = field(default_factory=list)
    blocks: list[tuple[list[int], list[int]]] = field(default_factory=list)
    faults: list[Exception | None] = field(default_factory=list)  # one a call: raised after `fault_after` proposals
    fault_after: int = 0
    closed: int = 0
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(7))

    @asynccontextmanager
    async def draft(self, token_ids: Sequence[int], params: DraftParams) -> AsyncIterator["ToyDraft"]:
        self.calls.append((list(token_ids), params))
        fault = self.faults.pop(0) if self.faults else None
        temperature = params.temperature if self.draws_at is None else self.draws_at
        form = self._form(params.grammar)
        proposals = list(self._proposals(list(token_ids), params.max_tokens, temperature, form))
        proposals = proposals if params.names is None else list(self._beside(proposals, token_ids, params.names))
        known = self.trusted and (form is None or form.same)
        draft = ToyDraft(temperature if known else None, proposals, self.burst, lambda: None)
        if fault is not None:
            draft.proposals = draft.proposals[: self.fault_after]
        try:
            yield draft
            if fault is not None and draft.at >= len(draft.proposals):
                raise fault
        finally:
            self.closed += 1

    async def block(self, token_ids: Sequence[int], drafted: Sequence[int], params: DraftParams) -> Block:
        self.blocks.append((list(token_ids), list(drafted)))
        temperature = params.temperature if self.draws_at is None else self.draws_at
        prefixes = [[*token_ids, *drafted[:i]] for i in range(len(drafted) + 1)]
        said = temperature if self.trusted else None
        return Block(said, [next(iter(self._proposals(prefix, 1, temperature))) for prefix in prefixes])

    def _form(self, grammar: str | None) -> ToyForm | None:
        if grammar is None or not self.forms:
            return None
        matcher = Matcher(compiled(Constraint(grammar), self.size))
        masks = self.forms == "masked"
        return ToyForm(matcher, matcher.start, masks, masks or not self.forbids, self.forbids)

    def _proposals(
        self, prefix: list[int], count: int, temperature: float, form: ToyForm | None = None
    ) -> Iterable[Proposal]:
        for _ in range(count):
            logprobs = toy_logprobs("black box", prefix, self.size)
            if form is not None:
                proposal = self._held(logprobs, temperature, form)
                yield proposal
                if proposal.token_id == END:
                    return
                prefix.append(proposal.token_id)
                form.take(proposal.token_id)
                continue
            top = np.argsort(-logprobs, kind="stable")[: self.k]
            swallowed = self.swallow(len(prefix))
            if swallowed:
                yield Proposal(None, NO_IDS, NO_FLOATS) if swallowed == "blind" else Proposal(None, top, logprobs[top])
                return
            token_id = self._draw(logprobs, temperature)
            if token_id in self.hides:
                yield Proposal(None, top, logprobs[top])
                return
            end_id = token_id if token_id == self.eos_id and self.tells_end else None
            yield Proposal(token_id, top, logprobs[top], end_id=end_id)
            prefix.append(token_id)
            if token_id == self.eos_id:
                return

    def _beside(self, proposals: Iterable[Proposal], prefix: Sequence[int], names: Ids) -> Iterable[Proposal]:
        said = list(prefix)
        for proposal in proposals:
            yield replace(proposal, beside=(names, toy_logprobs("black box", said, self.size)[names]))
            said.append(proposal.token_id)

    def _held(self, logprobs: Floats, temperature: float, form: ToyForm) -> Proposal:
        held = form.held(logprobs)
        shown = held if form.masks else logprobs
        top = np.argsort(-shown, kind="stable")[: self.k]
        top = top[shown[top] > -np.inf]
        whole = form.masks and top.size < self.k
        drawn = self._draw(held, temperature)
        return Proposal(drawn, top, shown[top], held=True, masked=form.masks, whole=whole)

    def _draw(self, logprobs: Floats, temperature: float) -> int:
        if temperature == 0.0:
            return int(logprobs.argmax())
        probs = np.exp(logprobs / temperature)
        return int(self.rng.choice(self.size, p=probs / probs.sum()))


@dataclass
class ToyNames:
    """Tells the toy black box's numbers; `off` by so many nats."""

    size: int = 12
    most: int = 12
    off: float = 0.0
    fault: Exception | None = None
    goes_on: bool = False
    beside: bool = False
    calls: list[tuple[list[list[int]], list[int]]] = field(default_factory=list)

    async def named(self, prefixes: Sequence[Sequence[int]], ids: Ids) -> list[Floats]:
        self.calls.append(([list(prefix) for prefix in prefixes], ids.tolist()))
        if self.fault is not None:
            raise self.fault
        return [toy_logprobs("black box", prefix, self.size)[ids] + self.off for prefix in prefixes]

    async def ahead(self, prefix: Sequence[int], token_id: int, ids: Ids, length: int) -> Ahead:
        (logprobs,) = await self.named([prefix], ids)
        proposals, said = list[Proposal](), [*prefix, token_id]
        for _ in range(length):
            numbers = toy_logprobs("black box", said, self.size)
            best = int(numbers.argmax())
            proposals.append(unlisted(best, float(numbers[best]), ids, numbers[ids]))
            said.append(best)
        return Ahead(logprobs, proposals, 2 * length)


@dataclass
class ToySession(RowSession):
    """Offset rows of a toy pair; remembers what was asked for."""

    size: int = 12
    strength: float = 1.0
    prefetched: list[list[int]] = field(default_factory=list)
    closed: bool = False
    fails: Exception | None = None

    def prefetch(self, token_ids: Sequence[int]) -> None:
        self.prefetched.append(list(token_ids))

    async def row(self, token_ids: Sequence[int]) -> NumpyRow:
        if self.fails is not None:
            raise self.fails
        base = toy_logprobs("initial", token_ids, self.size)
        return NumpyRow(base, self.strength * (toy_logprobs("unlearned", token_ids, self.size) - base))

    def close(self) -> None:
        self.closed = True


class ToyDetokenizer:
    """Id 0 is 'a', 1 is 'b', …"""

    def step(self, token_id: int) -> str:
        return chr(ord("a") + token_id)

    def flush(self) -> str:
        return ""


def toy_stream(
    params: SamplingParams,
    *,
    session: ToySession | None = None,
    prompt: Sequence[int] = (1, 2, 3),
    policy: Policy | None = None,
    grammar: Grammar | None = None,
) -> Stream:
    return Stream(
        prompt_ids=list(prompt),
        params=params,
        session=session or ToySession(),
        detokenizer=ToyDetokenizer(),
        policy=policy or Policy(),
        grammar=grammar,
    )
