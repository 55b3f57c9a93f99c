"""Positions to decide at, told by a few plain numbers, so that a failing example can be read."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from hypothesis import strategies as st
from numpy.typing import NDArray

from deltaserve.offset_models.engine.deciding.questions import Question
from deltaserve.server.decoding.history import History
from deltaserve.server.decoding.noise import Noise
from deltaserve.server.decoding.params import SamplingParams
from deltaserve.server.decoding.policy import Guard, Policy
from deltaserve.server.decoding.protocols import Floats, Proposal
from tests.support.toy import log_softmax

Row = NDArray[np.float32]

SMALL, WIDE = 12, 90  # vocabularies; the wide one has more ids than the batch looks at to find where a cap bites
GREEDY = SamplingParams(max_tokens=99, temperature=0.0)
SAMPLED = SamplingParams(max_tokens=99)


@dataclass(frozen=True, kw_only=True)
class Position:
    """A position of one stream. All numbers of the models follow from `seed`."""

    seed: int = 0
    listed: int = 5  # k
    proposed: int | None = 0  # rank of the proposed token in the black box's order; None: it was not shown
    tied: bool = False  # logits of 0 and 1 only
    strength: float = 1.0
    padded: int = 0  # of the last ids: the tokenizer does not have them
    missing: float = 0.0  # nats taken off every logprob of the list: the tail has more to hold, and the cap bites
    unnamed: float = 0.0  # nats by which a token that the list did not name may be above its last
    impossible: int = 0  # of the list's last ids: their logprob is −inf
    unreachable: int = 0  # of the first ids: the unlearned model gives them no probability at all
    params: SamplingParams = SAMPLED
    output: Sequence[int] = ()  # emitted so far, behind the prompt 1, 2
    policy: Policy = field(default_factory=lambda: Policy(allow_blind=True))
    draft_temperature: float | None = 1.0
    drafted: bool = False  # by the pair: what the draft was drawn from is known
    observed: bool = False
    local: bool = False

    def row(self, size: int) -> tuple[Row, Row]:
        """(log p_o, offset), each [size]."""
        logits, known = self._logits(size), size - self.padded
        base, offset = np.full(size, -math.inf), np.zeros(size)
        base[:known], unlearned = (log_softmax(logits[i, :known]) for i in (0, 1))
        unlearned[: self.unreachable] = -math.inf
        offset[:known] = self.strength * (unlearned - base[:known]) if self.strength else 0.0
        return base.astype(np.float32), offset.astype(np.float32)

    def proposal(self, size: int) -> Proposal:
        logprobs = log_softmax(self._logits(size)[2]) - self.missing
        order = np.argsort(-logprobs, kind="stable")
        ids = order[: self.listed]
        told = logprobs[ids]
        if self.impossible:
            told[-self.impossible :] = -math.inf
        token_id = None if self.proposed is None else int(order[self.proposed])
        cap = min(float(told[-1]) + self.unnamed, 0.0) if self.unnamed and ids.size else None
        return Proposal(token_id, ids, told, local=self.drafted, log_cap=cap)

    def question(self, size: int, noise: Noise | None = None, *, keeps: bool = False) -> Question:
        history = History(self.params, [1, 2])
        for token_id in self.output:
            history.add(token_id)
        return Question(
            proposal=self.proposal(size),
            params=self.params,
            policy=self.policy,
            history=history,
            noise=noise or Noise(self.params.seed, 1),
            draft_temperature=self.draft_temperature,
            observed=self.observed,
            local=self.local,
            drawn_from=torch.from_numpy(self.drawn_from(size)) if self.drafted else None,
            keeps=keeps,
        )

    def drawn_from(self, size: int) -> Floats:
        """What the pair drew its draft from, [size]."""
        base, offset = self.row(size)
        return np.exp(log_softmax(base.astype(np.float64) + 0.5 * np.maximum(offset, -50)))

    def _logits(self, size: int) -> Floats:
        """[3, size]: initial, unlearned, black box."""
        rng = np.random.default_rng(self.seed)
        return rng.integers(0, 2, (3, size)).astype(np.float64) if self.tied else rng.normal(0, 2, (3, size))


_IDS = st.integers(0, SMALL - 1)

GUARDS = st.builds(
    Guard,
    kl_nats=st.sampled_from([-1.0, 0.3, 50.0]),
    min_p=st.sampled_from([0.0, 0.2]),
    temperature=st.sampled_from([0.0, 0.6, math.inf]),
    unbiased=st.booleans(),
)
POLICIES = st.builds(
    Policy,
    tail=st.sampled_from(["impute", "impute", "truncate"]),
    guard=st.one_of(st.none(), st.none(), st.none(), GUARDS),
    allow_blind=st.just(True),
    explain=st.sampled_from([0, 0, 0, 0, 2]),
)
PENALTIES = {
    "repetition_penalty": st.sampled_from([1.0, 1.0, 1.3, 0.8]),
    "presence_penalty": st.sampled_from([0.0, 0.0, 1.5, -0.5]),
    "frequency_penalty": st.sampled_from([0.0, 0.0, 0.7]),
    "logit_bias": st.one_of(st.just({}), st.dictionaries(_IDS, st.sampled_from([-100.0, -2.0, 1.0, 30.0]), max_size=3)),
    "min_tokens": st.sampled_from([0, 0, 0, 50]),
    "eos_ids": st.sampled_from([frozenset(), frozenset({3}), frozenset({0, 4, 7})]),
    "top_logprobs": st.sampled_from([None, None, 0, 3, 20]),
}
FILTERS = {
    "top_p": st.sampled_from([1.0, 1.0, 0.95, 0.6, 0.01]),
    "top_k": st.sampled_from([0, 0, 0, 1, 4, 40]),
    "min_p": st.sampled_from([0.0, 0.0, 0.05, 0.5, 1.0]),
}


def params(temperatures: Sequence[float], seeds: st.SearchStrategy[int | None]) -> st.SearchStrategy[SamplingParams]:
    return st.builds(
        SamplingParams,
        max_tokens=st.just(99),
        temperature=st.sampled_from(temperatures),
        seed=seeds,
        **PENALTIES,
        **FILTERS,
    )


WARM = (1.0, 0.3, 0.7, 1.3, 2.0)
greedy_params = params([0.0], st.none())
seeded_params = params(WARM, st.integers(0, 2**64))
sampled_params = params(WARM, st.none())
filtered_params = st.builds(SamplingParams, max_tokens=st.just(99), temperature=st.sampled_from(WARM), **FILTERS)


@st.composite
def positions(draw: st.DrawFn, asked: st.SearchStrategy[SamplingParams], size: int = SMALL) -> Position:
    """Anything that may be asked at a position of a vocabulary of this size."""
    listed = draw(st.sampled_from([0, 1, 2, 5, 5, size - 2, size]))
    proposed = draw(st.one_of(st.none(), st.integers(0, 6)))
    return Position(
        seed=draw(st.integers(0, 10_000)),
        listed=listed,
        proposed=proposed,
        tied=draw(st.sampled_from([False, False, True])),
        strength=draw(st.sampled_from([1.0, 1.0, 0.0, 40.0])),
        padded=draw(st.sampled_from([0, 0, 2])),
        missing=draw(st.sampled_from([0.0, 0.0, 0.5, 3.0])),
        unnamed=draw(st.sampled_from([0.0, 0.0, 0.0, 1.5, 50.0])),
        impossible=draw(st.integers(0, listed - 1)) if listed and draw(st.sampled_from([False] * 4 + [True])) else 0,
        unreachable=draw(st.sampled_from([0, 0, 0, 2])),
        params=draw(asked),
        output=draw(st.lists(_IDS, max_size=4)),
        policy=draw(POLICIES),
        draft_temperature=draw(st.sampled_from([None, 0.0, 0.7, 1.0])),
        drafted=proposed is not None and draw(st.sampled_from([False, False, False, True])),
        observed=draw(st.booleans()),
        local=draw(st.booleans()),
    )


def like(position: Position, **changes: object) -> Position:
    return replace(position, **changes)  # type: ignore[arg-type]
