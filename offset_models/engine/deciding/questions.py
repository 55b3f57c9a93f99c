"""What is to be decided at one position, and many such questions as arrays.

Symbols as in `server/decoding`: K the ids that the black box listed, ℓ their logprobs, r the mass that it left out.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from deltaserve.server.decoding.filling import ROUNDING
from deltaserve.server.decoding.history import History
from deltaserve.server.decoding.noise import Noise
from deltaserve.server.decoding.params import SamplingParams
from deltaserve.server.decoding.policy import Policy
from deltaserve.server.decoding.protocols import NO_IDS, Floats, Ids, Proposal

Bools = NDArray[np.bool_]


@dataclass(slots=True, eq=False)  # not frozen: made for every token, and that takes a third of the time
class Question:
    """One position of one stream. Its row is given apart."""

    proposal: Proposal
    params: SamplingParams
    policy: Policy
    history: History  # of the tokens before this position
    noise: Noise
    draft_temperature: float | None
    observed: bool = False  # the agreement of the black box's draft is wanted
    local: bool = False  # and that of the pair's
    drawn_from: Tensor | None = None  # [V] float64 on the device: what a draft of the pair was drawn from
    keeps: bool = False  # what the token is drawn from is wanted, for a draft of the pair

    @property
    def greedy(self) -> bool:
        return self.params.temperature == 0.0

    @property
    def may_want_names(self) -> bool:
        """Whether the core is to say if ids are asked for by name, unless the list proves the answer."""
        return self.policy.naming is not None and not self.proposal.named and bool(self.proposal.top_ids.size)

    @property
    def simple(self) -> bool:
        """Whether the list and the largest offset outside it mostly decide: greedy, nothing else changes a weight."""
        params = self.params
        plain = self.greedy and not params.biased and params.top_logprobs is None and not self.local
        return plain and bool(self.proposal.top_ids.size) and not self.history.touched().size


@dataclass(frozen=True)
class Questions:
    """R questions; H is the most explicit ids of any of them. Where one has fewer, its last id is repeated."""

    each: Sequence[Question]
    ids: Ids  # [R, H] K first, then what a penalty, a bias or `min_tokens` names
    told: Floats  # [R, H] ℓ of K; 0 elsewhere
    listed: NDArray[np.int64]  # [R] how many are K
    explicit: NDArray[np.int64]  # [R] how many are explicit
    additive: Floats | None  # [R, H] bias, presence and frequency penalty and bans; None: nothing of it anywhere
    repeated: Bools | None  # [R, H] ids that the repetition penalty multiplies

    @classmethod
    def of(cls, questions: Sequence[Question]) -> "Questions":
        touched = [question.history.touched() for question in questions]
        extras = [
            np.setdiff1d(ids, question.proposal.top_ids, assume_unique=True) if ids.size else NO_IDS
            for ids, question in zip(touched, questions, strict=True)
        ]
        listed = np.array([question.proposal.top_ids.size for question in questions], np.int64)
        explicit = listed + np.array([ids.size for ids in extras], np.int64)
        width = max(1, int(explicit.max()))
        ids, told = np.zeros((len(questions), width), np.int64), np.zeros((len(questions), width))
        for row, (question, extra) in enumerate(zip(questions, extras, strict=True)):
            k, h = int(listed[row]), int(explicit[row])
            ids[row, :k], told[row, :k] = question.proposal.top_ids, question.proposal.top_logprobs
            if extra.size:
                ids[row, k:h] = extra
            if 0 < h < width:
                ids[row, h:] = ids[row, h - 1]
                if h == k:
                    told[row, h:] = told[row, k - 1]
        changes = [
            question.history.changes(own) if named.size else None
            for question, own, named in zip(questions, ids, touched, strict=True)
        ]
        return cls(questions, ids, told, listed, explicit, *_joined(changes, ids.shape))

    def __len__(self) -> int:
        return len(self.each)

    @cached_property
    def is_told(self) -> Bools:
        """[R, H] K, and what repeats its last id."""
        columns = np.arange(self.ids.shape[1])
        whole = (self.explicit == self.listed) & (self.listed > 0)
        told: Bools = (columns < self.listed[:, None]) | whole[:, None]
        return told

    @cached_property
    def is_explicit(self) -> Bools:
        """[R, H] without repetitions."""
        explicit: Bools = np.arange(self.ids.shape[1]) < self.explicit[:, None]
        return explicit

    @cached_property
    def mass(self) -> Floats:
        """r, shape [R]."""
        inside = np.exp(self.told)
        inside[np.arange(self.ids.shape[1]) >= self.listed[:, None]] = 0.0
        left: Floats = 1.0 - inside.sum(-1)
        left[left <= ROUNDING] = 0.0
        return left

    @cached_property
    def log_cap(self) -> Floats:
        """What no id outside K exceeds: min_K ℓ where nothing else is told, +inf without a list; shape [R]."""
        last = self.told[np.arange(len(self)), np.maximum(self.listed - 1, 0)]
        caps: Floats = np.where(self.listed > 0, last, math.inf)
        for row, question in enumerate(self.each):
            if question.proposal.log_cap is not None:
                caps[row] = question.proposal.log_cap
        return caps

    @cached_property
    def temperature(self) -> Floats:
        """[R]; 1 for greedy questions, of whose weights only the largest counts."""
        return np.array([question.params.temperature or 1.0 for question in self.each])

    @cached_property
    def truncated(self) -> Bools:
        """[R] whether there is no tail."""
        cut = [question.policy.tail == "truncate" and not question.proposal.imputed for question in self.each]
        return np.array(cut)


def _joined(
    changes: Sequence[tuple[Floats, Bools | None] | None], shape: tuple[int, ...]
) -> tuple[Floats | None, Bools | None]:
    if not any(changes):
        return None, None
    additive, repeated = np.zeros(shape), np.zeros(shape, np.bool_)
    for row, change in enumerate(changes):
        if change is not None:
            additive[row] = change[0]
            if change[1] is not None:
                repeated[row] = change[1]
    return additive, repeated if repeated.any() else None
