"""What the core asks of the black box, which proposes tokens, and of the pair, which gives the logit offset.

Legend (docs/how-it-works.md, "The arithmetic"): M black box, K `top_ids`, ℓ `top_logprobs`, o initial, u unlearned,
δ(i) = log p_u(i) − log p_o(i), α strength. An `offset` here is already Σ_j α_j·δ_j(i). All logs are natural (nats).
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Floats = NDArray[np.float64]

NO_IDS: Ids = np.empty(0, np.int64)
NO_FLOATS: Floats = np.empty(0, np.float64)


@dataclass(frozen=True, slots=True)
class Proposal:
    """One position of a draft: the token M drew and M's k most probable tokens there.

    `token_id` is None and `top_ids` empty where the upstream swallowed the position: nothing is known of it.
    `top_ids` are M's k best by rank, whatever was drawn: a drawn token outside them is not appended. Where M named
    tokens by texts that may be several ids, these are left out: their mass is in the tail, and `log_cap` bounds it.
    """

    token_id: int | None
    top_ids: Ids  # [k] unique, most probable first
    top_logprobs: Floats  # [k] nats, descending, normalised over the whole vocabulary, before temperature
    drawn_from: Floats | None = None  # [V] what a local draft was drawn from; None: drawn by M, or a point
    token_logprob: float | None = None  # M's own ℓ of `token_id`, where it was told beside a list that lacks it
    local: bool = False  # drafted by the pair, not by M
    end_id: int | None = None  # a token that M was seen here to end its answers with, whatever is emitted
    log_cap: float | None = None  # no id outside K has a higher ℓ; None: that is the last of `top_logprobs`
    bridged: bool = False  # M was asked from an earlier prefix: this one cannot be written as text
    named: bool = False  # M was asked for ids by name here, and those that it told of are in K
    held: bool = False  # drawn within the answer's grammar, which M was sent
    masked: bool = False  # ℓ is normalised over what that grammar allows, and K has nothing else
    whole: bool = False  # and K is all of it
    beside: tuple[Ids, Floats] | None = None  # ids that the draft's call named, ascending, and their ℓ here, nats
    unlisted: bool = False  # K is no list, but what M drew and named ids: only a certain token may be decided from it

    @property
    def imputed(self) -> bool:
        """Whether the tail is needed, whatever the policy: M told no list, or its list named more than K holds."""
        return not self.top_ids.size or self.log_cap is not None


@dataclass(frozen=True, slots=True)
class DraftParams:
    """What the core wants of a draft; `Draft.temperature` says what it got."""

    temperature: float
    max_tokens: int
    seed: int | None = None
    ignore_eos: bool = False  # go on after an end-of-sequence token, where that leaves the draws as they are
    min_tokens: int = 0  # no end before this many tokens; only where the draft's own distribution does not matter
    stream: str | None = field(default=None, compare=False)  # one random name for all calls of an answer: a cache's key
    grammar: str | None = None  # as `Constraint` has it: M is to keep to it from its first token on, where it can
    whole_lists: bool = False  # lists of what the grammar allows and of nothing else would not do
    names: Ids | None = field(default=None, compare=False)  # tell these ids too, where `NamedIds.beside` says so


class Draft(Protocol):
    """Proposals of one upstream call, in order, first position right after the prefix it was opened with."""

    @property
    def temperature(self) -> float | None:
        """Temperature the proposals are drawn at from all of p_M (0: greedy).

        None when that is unknown, or when it depends on a token whether it is shown: then each proposal is a guess.
        """

    def __aiter__(self) -> AsyncIterator[Proposal]: ...

    def arrived(self) -> list[Proposal]:
        """The next proposals that are there already, taken off: they count as iterated. May be empty."""


@dataclass(frozen=True, slots=True)
class Block:
    """M's lists along a block that somebody else drafted."""

    temperature: float | None  # what M drew at, as `Draft.temperature`
    proposals: Sequence[Proposal]  # after the prefix, after the first drafted id, …, after the last; m + 1 in all
    read: int = 0  # prompt tokens that M was sent for it, all prompts together
    drawn: int = 0  # tokens that M generated for it


class BlockScorer(Protocol):
    """A black box that tells, in one call, its list at every position of a block that somebody else drafted."""

    async def block(self, token_ids: Sequence[int], drafted: Sequence[int], params: DraftParams) -> Block:
        """M's list after token_ids + drafted[:i] for i = 0 … m, with what M itself drew there."""


@dataclass(frozen=True, slots=True)
class Ahead:
    """What a call that asked for ids by name told, and how M itself goes on behind a token that it may not have drawn.

    `proposals`: M's greedy tokens behind the prefix and that token, `unlisted`, with the same ids named at each.
    """

    logprobs: Floats  # ℓ of the ids right after the prefix, nats
    proposals: Sequence[Proposal]
    drawn: int = 0  # tokens that M generated for it


class NamedIds(Protocol):
    """A black box that tells the log-probabilities of ids that it is asked for by name."""

    @property
    def most(self) -> int:
        """Ids that one call may name."""

    @property
    def goes_on(self) -> bool:
        """Whether such a call may also tell how M goes on: `ahead`."""

    @property
    def beside(self) -> bool:
        """Whether a draft's own call may name ids, too: `DraftParams.names`."""

    async def named(self, prefixes: Sequence[Sequence[int]], ids: Ids) -> Sequence[Floats]:
        """ℓ of these ids after each prefix, nats, each of the shape of `ids`. One call. Raises UpstreamError."""

    async def ahead(self, prefix: Sequence[int], token_id: int, ids: Ids, length: int) -> Ahead:
        """ℓ of these ids after the prefix, and M's next `length` tokens behind it and `token_id`. The same call."""


class Upstream(Protocol):
    """A black box. Leaving a draft's context closes the connection, which stops the upstream's work."""

    def draft(self, token_ids: Sequence[int], params: DraftParams) -> AbstractAsyncContextManager[Draft]: ...


class Tail(Protocol):
    """The ids outside an explicit set, each with weight w(i) = min(log_scale + log p_o(i), log_cap) + offset(i).

    Computed on demand: a greedy step needs `best` and `max_offset`, a sampled one `log_weight`, a draw `weights`.
    """

    def best(self) -> tuple[int, float]:
        """(heaviest id, its w); the lowest id among equals; (-1, -inf) when the tail is empty."""

    def max_offset(self) -> float:
        """max offset(i) over the tail (ids the tokenizer has), for the certificate; -inf when the tail is empty."""

    def log_weight(self, temperature: float) -> float:
        """log Σ exp(w(i) / temperature); -inf when the tail is empty."""

    def weights(self) -> Floats:
        """w over the whole vocabulary, shape [V], -inf at explicit ids. Moves a whole row."""


class OffsetRow(Protocol):
    """The pair (or sum of pairs) at one position. A row may live on a device: ask for as little as possible."""

    @property
    def vocab_size(self) -> int: ...

    @property
    def max_offset(self) -> float:
        """max_i offset(i) over the whole vocabulary."""

    def offset(self, ids: Ids) -> Floats:
        """Σ_j α_j·δ_j at `ids`; shape [n], nats; 0 where the tokenizer has no such id."""

    def base(self, ids: Ids) -> Floats:
        """log p_o at `ids` (of the first pair when there are several); shape [n]; -inf for padded vocabulary rows."""

    def lifted(self, n: int, outside: Ids) -> Ids:
        """The n ids with the largest offset that are not in `outside`, largest first; fewer where there are no more."""

    def tail_scale(self, listed: Ids, mass: float, log_cap: float) -> float:
        """log s with Σ_{i∉listed} min(s·p_o(i), cap) = mass > 0; -inf where p_o has nothing outside `listed`.

        Where even every id at the cap holds less than the mass, a scale that lifts all of them to it.
        """

    def tail(self, explicit: Ids, log_scale: float, log_cap: float) -> Tail:
        """The weights outside `explicit`; a log_scale of -inf means an empty tail."""


class OffsetSession(Protocol):
    """One stream's place in the engine. Ids only ever grow or are replaced from some position on (rewind)."""

    def prefetch(self, token_ids: Sequence[int]) -> None:
        """Start computing the rows of every prefix up to and including `token_ids`; returns at once."""

    async def row(self, token_ids: Sequence[int]) -> OffsetRow:
        """The row for the position right after `token_ids`. Raises OffsetUnavailable when the engine cannot answer."""

    def close(self) -> None:
        """Give the slot back at once; work not yet started is dropped."""
