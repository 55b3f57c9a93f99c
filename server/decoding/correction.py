"""Top-k of the black box + offset row → corrected distribution: log q(i) = ℓ_M(i) + offset(i) − log Z.

K is corrected id by id. Outside K the black box is taken to have the initial model's shape, scaled to the mass
r = 1 − Σ_K p_M that is left and never above the smallest listed probability (tail policy `impute`), or to be
zero (`truncate`). Where K is the whole vocabulary there is no tail and the correction is exact.
Source: δ-unlearning (Huang et al., TMLR 2025); the tail and the certificate are ours (docs/how-it-works.md).
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from server.decoding.protocols import NO_FLOATS, NO_IDS, Floats, Ids, OffsetRow, Proposal, Tail
from server.decoding.rows import log_sum_exp

TailPolicy = Literal["impute", "truncate"]

# 1 − Σ_K p_M below this is rounding, not probability: it must not be lifted into a tail.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Corrected:
    """log q up to a constant: explicit ids one by one, the rest as a tail. Weights are on the scale of log p_M."""

    row: OffsetRow
    ids: Ids  # [h] K first, then the extra ids a penalty or bias names
    log_black_box: Floats  # [h] ℓ on K, log p̂_M on the extra ids; -inf where the tokenizer has no such id
    offsets: Floats  # [h]
    k: int  # how many of `ids` are K
    tail_mass: float  # r, the probability that M's list leaves out
    log_scale: float  # log(r / Σ_{j∉K} p_o(j)); -inf for no tail
    log_cap: float  # min_K ℓ
    whole_tail: bool = False  # Z counts the tail at its mass r, where the cap left some of it out

    @cached_property
    def log_weights(self) -> Floats:
        """ℓ(i) + offset(i), shape [h]."""
        return self.log_black_box + self.offsets

    @cached_property
    def tail(self) -> Tail:
        """The ids that are not explicit."""
        return self.row.tail(self.ids, self.log_scale, self.log_cap)

    @cached_property
    def log_z(self) -> float:
        """log Z, so that log q = weight − log_z."""
        tail = self.tail.log_weight(1.0)
        if self.whole_tail and tail > -math.inf:
            tail += math.log(self.tail_mass) - self.tail.log_mass()
        return float(np.logaddexp(log_sum_exp(self.log_weights), tail))

    def log_q(self, token_id: int) -> float:
        """Corrected log-probability of one id, nats, before penalties and temperature."""
        at = np.flatnonzero(self.ids == token_id)
        if at.size:
            return float(self.log_weights[at[0]]) - self.log_z
        base, offset = self._single(token_id)
        return min(self.log_scale + base, self.log_cap) + offset - self.log_z

    def _single(self, token_id: int) -> tuple[float, float]:
        ids = np.array([token_id], np.int64)
        return float(self.row.base(ids)[0]), float(self.row.offset(ids)[0])

    def dense(self) -> Floats:
        """Unnormalised log q over the vocabulary, shape [V]; moves a whole row."""
        weights = self.tail.weights()
        weights[self.ids] = self.log_weights
        return weights


def correct(proposal: Proposal, row: OffsetRow, policy: TailPolicy = "impute", extra_ids: Ids = NO_IDS) -> Corrected:
    """Join what M's list says with the pair's row.

    `extra_ids` [m], unique: made explicit although M may not have listed them: a penalty or a bias touches them.
    """
    head, listed = proposal.top_ids, proposal.top_logprobs
    base = row.base(head)
    log_listed = np.where(base > -math.inf, listed, -math.inf)  # padded rows of M's vocabulary are no tokens
    tail_mass = _left_out(listed)
    log_cap = _cap(listed)
    log_scale = _log_scale(row, head, tail_mass) if policy == "impute" else -math.inf
    extra = np.setdiff1d(extra_ids, head, assume_unique=True) if extra_ids.size else NO_IDS
    imputed = _impute(row.base(extra), log_scale, log_cap) if extra.size else NO_FLOATS
    ids = np.concatenate((head, extra)) if extra.size else head
    return Corrected(
        row=row,
        ids=ids,
        log_black_box=np.concatenate((log_listed, imputed)) if extra.size else log_listed,
        offsets=row.offset(ids),
        k=int(head.size),
        tail_mass=tail_mass,
        log_scale=log_scale,
        log_cap=log_cap,
    )


def correct_given(proposal: Proposal, row: OffsetRow, policy: TailPolicy = "impute") -> Corrected:
    """The same for a token that is given and not drawn, of which M may have told more than its list.

    A log-probability told beside the list makes the token explicit, and Z counts the tail at the mass it is known to
    have: with an offset of zero every number that M told comes out as it went in.
    """
    if policy == "truncate":
        return correct(proposal, row, policy)
    told, told_log = _told(proposal)
    ids = np.concatenate((proposal.top_ids, told))
    known = np.concatenate((proposal.top_logprobs, told_log))
    tail_mass = _left_out(known)
    return Corrected(
        row=row,
        ids=ids,
        log_black_box=np.where(row.base(ids) > -math.inf, known, -math.inf),
        offsets=row.offset(ids),
        k=int(proposal.top_ids.size),
        tail_mass=tail_mass,
        log_scale=_log_scale(row, ids, tail_mass),
        log_cap=_cap(proposal.top_logprobs),
        whole_tail=True,
    )


def _told(proposal: Proposal) -> tuple[Ids, Floats]:
    """The given token and its ℓ, where M told it and does not list it: at most one of each."""
    token_id, logprob = proposal.token_id, proposal.token_logprob
    if token_id is None or logprob is None or token_id in proposal.top_ids:
        return NO_IDS, NO_FLOATS
    return np.array([token_id], np.int64), np.array([min(logprob, _cap(proposal.top_logprobs))])


def _cap(listed: Floats) -> float:
    return float(listed[-1]) if listed.size else math.inf


def _left_out(listed: Floats) -> float:
    """r = 1 − Σ_K p_M, clipped at 0."""
    mass = 1.0 - float(np.exp(listed).sum())
    return mass if mass > _ROUNDING else 0.0


def _log_scale(row: OffsetRow, head: Ids, tail_mass: float) -> float:
    """log(r / S) with S = Σ_{j∉K} p_o(j); -inf when nothing is left outside K."""
    if tail_mass == 0.0 or head.size >= row.vocab_size:
        return -math.inf
    log_outside = row.log_outside(head)
    return -math.inf if log_outside == -math.inf else math.log(tail_mass) - log_outside


def _impute(log_base: Floats, log_scale: float, log_cap: float) -> Floats:
    """log p̂_M of ids outside K."""
    if log_scale == -math.inf:
        return np.full_like(log_base, -math.inf)
    return np.minimum(log_base + log_scale, log_cap)
