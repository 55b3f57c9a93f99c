"""Top-k of the black box + offset row → corrected distribution: log q(i) = ℓ_M(i) + offset(i) − log Z.

K is corrected id by id. Outside K the black box is taken to have the initial model's shape, scaled to the mass
r = 1 − Σ_K p_M that is left and never above the smallest listed probability (tail policy `impute`), or to be
zero (`truncate`). An imputed tail holds all of r, so that with an offset of zero q is the black box, token by token.
Where K is the whole vocabulary there is no tail and the correction is exact.
A list that M took under the answer's grammar is of M given what is allowed: r is the mass of the other allowed ids.
Source: δ-unlearning (Huang et al., TMLR 2025); the tail and the certificate are ours (docs/how-it-works.md).
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from deltaserve.server.decoding.constraints.matching import Allowed
from deltaserve.server.decoding.filling import ROUNDING
from deltaserve.server.decoding.protocols import NO_FLOATS, NO_IDS, Floats, Ids, OffsetRow, Proposal, Tail
from deltaserve.server.decoding.rows import log_sum_exp

TailPolicy = Literal["impute", "truncate"]


_ROW_SLACK = 0.05  # nats: a float32 row of 152k ids adds up to 1.0004, all of which may be taken for the tail's


@dataclass(frozen=True)
class Corrected:
    """log q up to a constant: explicit ids one by one, the rest as a tail. Weights are on the scale of log p_M."""

    row: OffsetRow
    ids: Ids  # [h] K first, then the given token that M told beside it, then what a penalty or a bias names
    log_told: Floats  # [known] ℓ of the first `known` ids; -inf where the tokenizer has no such id
    offsets: Floats  # [h]
    k: int  # how many of `ids` are K
    tail_mass: float  # r, the probability that M did not tell of
    log_cap: float  # min_K ℓ, or what M told of tokens that it did not name
    policy: TailPolicy
    within: Allowed | None = None  # the only ids that M's numbers are of; None: the whole vocabulary

    @cached_property
    def log_black_box(self) -> Floats:
        """ℓ of the ids that M told of, log p̂_M of the others, shape [h]."""
        if self.log_told.size == self.ids.size:
            return self.log_told
        return np.concatenate((self.log_told, self.imputed(self.ids[self.log_told.size :])))

    @cached_property
    def log_weights(self) -> Floats:
        """ℓ(i) + offset(i), shape [h]."""
        return self.log_black_box + self.offsets

    @cached_property
    def log_scale(self) -> float:
        """log s of p̂_M(i) = min(s·p_o(i), cap) with Σ p̂_M = r; -inf for no tail. Looks through the row."""
        known = self.log_told.size
        if self.policy == "truncate" or self.tail_mass == 0.0 or known >= self.row.vocab_size:
            return -math.inf
        return self.row.tail_scale(self._without(self.ids[:known]), self.tail_mass, self.log_cap)

    def _without(self, told: Ids) -> Ids:
        """The ids that the tail's mass is not of."""
        if self.within is None:
            return told
        return np.union1d(told, np.flatnonzero(~self.within.wide(self.row.vocab_size)))

    def imputed(self, ids: Ids) -> Floats:
        """log p̂_M of ids that M did not tell of, shape of `ids`."""
        if self.log_scale == -math.inf:
            return np.full(ids.shape, -math.inf)
        return np.minimum(self.row.base(ids) + self.log_scale, self.log_cap)

    @cached_property
    def tail(self) -> Tail:
        """The ids that are not explicit."""
        return self.row.tail(self.ids, self.log_scale, self.log_cap)

    def tail_bound(self, temperature: float) -> float:
        """What log Σ exp(w/T) over the tail is at most; the row is not looked through.

        Σ p̂_M is at most r and no p̂_M is above the cap. With the largest offset of all that bounds the sum at T = 1;
        below it Σ p̂^(1/T) ≤ r·cap^(1/T − 1), above it Σ p̂^(1/T) ≤ r^(1/T)·n^(1 − 1/T) of n ids (power means).
        """
        n = self.row.vocab_size - self.ids.size
        if self.policy == "truncate" or self.tail_mass == 0.0 or n <= 0:
            return -math.inf
        log_mass, inverse = math.log(self.tail_mass), 1.0 / temperature
        if temperature > 1.0:
            log_sum = inverse * log_mass + (1.0 - inverse) * math.log(n)
        else:
            log_sum = log_mass + (inverse - 1.0) * min(self.log_cap, 0.0)
        return log_sum + _ROW_SLACK + inverse * self.row.max_offset

    @cached_property
    def log_z(self) -> float:
        """log Z, so that log q = weight − log_z."""
        return float(np.logaddexp(log_sum_exp(self.log_weights), self.tail.log_weight(1.0)))

    def log_q(self, token_id: int) -> float:
        """Corrected log-probability of one id, nats, before penalties and temperature."""
        at = np.flatnonzero(self.ids == token_id)
        if at.size:
            return float(self.log_weights[at[0]]) - self.log_z
        one = np.array([token_id], np.int64)
        return float(self.imputed(one)[0] + self.row.offset(one)[0]) - self.log_z

    def dense(self) -> Floats:
        """Unnormalised log q over the vocabulary, shape [V]; moves a whole row."""
        weights = self.tail.weights()
        weights[self.ids] = self.log_weights
        return weights


def correct(
    proposal: Proposal,
    row: OffsetRow,
    policy: TailPolicy = "impute",
    extra_ids: Ids = NO_IDS,
    allowed: Allowed | None = None,
) -> Corrected:
    """Join what M's list says with the pair's row.

    `extra_ids` [m], unique: made explicit although M may not have listed them: a penalty or a bias touches them.
    `allowed`: what a masked list is of.
    """
    extra = np.setdiff1d(extra_ids, proposal.top_ids, assume_unique=True) if extra_ids.size else NO_IDS
    within = allowed if proposal.masked else None
    return _corrected(proposal, row, policy, proposal.top_ids, proposal.top_logprobs, extra, within)


def correct_given(proposal: Proposal, row: OffsetRow, policy: TailPolicy = "impute") -> Corrected:
    """Corrects a position whose token is given and not drawn: M may have told that token's logprob beside its list.

    A log-probability told beside the list makes the token explicit. (A drawn token's must not: q would depend on it.)
    """
    if policy == "truncate" and not proposal.imputed:
        return correct(proposal, row, policy)
    given, logprob = _told_beside(proposal)
    ids, logprobs = np.concatenate((proposal.top_ids, given)), np.concatenate((proposal.top_logprobs, logprob))
    return _corrected(proposal, row, policy, ids, logprobs, NO_IDS)


def _corrected(
    proposal: Proposal,
    row: OffsetRow,
    policy: TailPolicy,
    told: Ids,
    logprobs: Floats,
    extra: Ids,
    within: Allowed | None = None,
) -> Corrected:
    """`told` [n]: the ids that M told a log-probability of, K first; `extra` [m]: others to be made explicit."""
    ids = np.concatenate((told, extra)) if extra.size else told
    return Corrected(
        row=row,
        ids=ids,
        log_told=np.where(row.base(told) > -math.inf, logprobs, -math.inf),  # padded rows of M are no tokens
        offsets=row.offset(ids),
        k=int(proposal.top_ids.size),
        tail_mass=_left_out(logprobs),
        log_cap=_cap(proposal),
        policy="impute" if proposal.imputed else policy,
        within=within,
    )


def _told_beside(proposal: Proposal) -> tuple[Ids, Floats]:
    """The given token and its ℓ, where M told it and does not list it: at most one of each."""
    token_id, logprob = proposal.token_id, proposal.token_logprob
    if token_id is None or logprob is None or token_id in proposal.top_ids:
        return NO_IDS, NO_FLOATS
    return np.array([token_id], np.int64), np.array([min(logprob, _cap(proposal))])


def _cap(proposal: Proposal) -> float:
    """What no id outside K exceeds, ℓ."""
    if proposal.log_cap is not None:
        return proposal.log_cap
    return float(proposal.top_logprobs[-1]) if proposal.top_logprobs.size else math.inf


def _left_out(told: Floats) -> float:
    """r = 1 − Σ p_M, clipped at 0."""
    mass = 1.0 - float(np.exp(told).sum())
    return mass if mass > ROUNDING else 0.0
