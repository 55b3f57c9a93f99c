"""Sampling parameters → the target distribution q̃ that every emitted token is drawn from.

Order, as in vLLM: penalties and logit_bias on corrected log-probabilities, then temperature, min_p, top_k, top_p.
A constraint goes before all of them: an id that its grammar does not allow has no weight.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from deltaserve.errors import BadRequest
from deltaserve.server.decoding.constraints.matching import Allowed
from deltaserve.server.decoding.correction import Corrected
from deltaserve.server.decoding.history import History
from deltaserve.server.decoding.masking import MaskedTail, NoTail, likeliest
from deltaserve.server.decoding.params import SamplingParams
from deltaserve.server.decoding.policy import Guard
from deltaserve.server.decoding.protocols import Floats, Ids, Tail
from deltaserve.server.decoding.ranking import largest
from deltaserve.server.decoding.rows import log_add, log_sum_exp

_ROUNDED = 1e-5  # rows are float32: what a sum of theirs may be off by
_FIRST_SORT = 512  # filters look at this many of the most probable ids before they sort the vocabulary


@dataclass(frozen=True)
class Target:
    """q̃ at one position."""

    corrected: Corrected
    params: SamplingParams
    shifts: Floats | None = None  # [h] penalties and bias of the explicit ids
    allowed: Allowed | None = None  # the ids that a constraint allows; None: all

    @cached_property
    def weights(self) -> Floats:
        """Weights of the explicit ids before temperature, on the scale of the tail's weights; shape [h]."""
        weights = self.corrected.log_weights
        weights = weights if self.shifts is None else weights + self.shifts
        return weights if self.allowed is None else np.where(self.allowed.at(self.corrected.ids), weights, -math.inf)

    @cached_property
    def tail(self) -> Tail:
        """The ids that are not explicit."""
        corrected, allowed = self.corrected, self.allowed
        if allowed is None:
            return corrected.tail
        if allowed.count <= corrected.ids.size and np.isin(allowed.ids, corrected.ids).all():
            return NoTail(corrected.row.vocab_size)
        return MaskedTail(corrected.tail, corrected.row, corrected.ids, allowed)

    @property
    def possible(self) -> bool:
        """Whether any id has weight."""
        return bool((self.weights > -math.inf).any()) or self.tail.best()[1] > -math.inf

    def best(self, preferred: int | None = None) -> int:
        """argmax q̃; among equals `preferred`, then a listed id, then the lowest id.

        Under a constraint many ids may stand at the tail's cap: of those the pair's initial model decides, so that it
        does not matter who drafted.
        """
        peak = float(self.weights.max()) if self.weights.size else -math.inf
        if peak == -math.inf or not self.certified:  # else the tail need not be looked at
            tail_id, tail_peak = self.tail.best()
            if tail_peak > peak:
                return tail_id
        if peak == -math.inf:
            raise nothing_left(self.shifts, self.allowed)
        at = np.flatnonzero(self.weights == peak)
        if self.allowed is not None and at[0] >= self.corrected.k:
            return likeliest(self.corrected.row, self.corrected.ids[at])
        equals = self.corrected.ids[at if self.allowed is None else at[at < self.corrected.k]]
        return preferred if preferred is not None and preferred in equals else int(equals.min())

    @cached_property
    def certified(self) -> bool:
        """True when full-vocabulary δ-unlearning provably has the same argmax (greedy steps)."""
        if self.allowed is not None and self.allowed.count == 1:
            return True  # whatever q is
        head = self.weights[: self.corrected.k]
        if not head.size or self.params.repetition_penalty != 1.0:
            return False
        best, corrected = float(head.max()), self.corrected
        if self.shifts is None and best >= corrected.log_cap + corrected.row.max_offset:
            return True  # even were the largest offset of all outside K
        return best >= self._bound_outside()

    def _bound_outside(self) -> float:
        """min_K ℓ + max_{i∉K} offset(i), penalties and bias included: no id outside K can weigh more."""
        corrected = self.corrected
        extra = slice(corrected.k, None)
        bounds = corrected.offsets[extra] if self.shifts is None else corrected.offsets[extra] + self.shifts[extra]
        known = corrected.row.base(corrected.ids[extra]) > -math.inf
        if self.allowed is not None:
            known &= self.allowed.at(corrected.ids[extra])
        return corrected.log_cap + max(self.tail.max_offset(), float(bounds[known].max(initial=-math.inf)))

    @cached_property
    def _scaled(self) -> Floats:
        """weight / T of the explicit ids, shape [h]."""
        return self.weights if self.params.temperature == 1.0 else self.weights / self.params.temperature

    @cached_property
    def _log_explicit(self) -> float:
        """log Σ exp(weight / T) over the explicit ids."""
        return log_sum_exp(self._scaled)

    @cached_property
    def _log_norm(self) -> float:
        """log Σ exp(weight / T) over the vocabulary (unfiltered targets)."""
        return log_add(self._log_explicit, self.tail.log_weight(self.params.temperature))

    def prob(self, token_id: int) -> float:
        """q̃(token_id)."""
        if self.params.temperature == 0.0:
            return float(token_id == self.best())
        if self.params.filtered or "probs" in self.__dict__:
            return float(self.probs[token_id])
        at = np.flatnonzero(self.corrected.ids == token_id)
        if not at.size:
            return float(self.probs[token_id])
        return math.exp(float(self._scaled[at[0]]) - self._log_norm)

    def prob_floor(self, token_id: int) -> float:
        """What q̃(token_id) is at least, as far as it can be said without a look through the row; else 0."""
        params = self.params
        at = np.flatnonzero(self.corrected.ids == token_id)
        if params.temperature == 0.0 or params.filtered or not at.size:
            return 0.0
        most = log_add(self._log_explicit, self.corrected.tail_bound(params.temperature))
        log_weight = float(self._scaled[at[0]])
        return math.exp(log_weight - most) * (1.0 - _ROUNDED) if -math.inf < log_weight and most < math.inf else 0.0

    def listed_probs(self, listed: Ids, *, roughly: bool = False) -> Floats:
        """q̃ of M's list, shape [k]. `roughly`: at T = 1, where the tail was not seen yet, with its mass uncorrected."""
        corrected, params = self.corrected, self.params
        told = corrected.k == listed.size  # else the list was left aside
        if not told or params.temperature == 0.0 or params.filtered or "probs" in self.__dict__:
            return self.probs[listed]
        if roughly and params.temperature == 1.0 and "_log_norm" not in self.__dict__:
            mass = corrected.tail_mass if corrected.policy == "impute" else 0.0
            log_norm = log_add(self._log_explicit, math.log(mass) if mass else -math.inf)
        else:
            log_norm = self._log_norm
        if log_norm == -math.inf:
            return np.zeros(corrected.k)
        return np.exp(self._scaled[: corrected.k] - log_norm)

    @cached_property
    def probs(self) -> Floats:
        """q̃ over the whole vocabulary, shape [V], sums to 1."""
        if self.params.temperature == 0.0:  # of a sampled answer: a guard made this step greedy
            probs = np.zeros(self.corrected.row.vocab_size)
            probs[self.best()] = 1.0
            return probs
        weights = self.tail.weights()
        weights[self.corrected.ids] = self.weights
        weights /= self.params.temperature
        peak = float(weights.max())
        if peak == -math.inf:
            raise nothing_left(self.shifts, self.allowed)
        probs = np.exp(weights - peak)
        if self.params.filtered:
            keep_probable(probs, self.params)
        probs /= probs.sum()
        return probs


def nothing_left(shifts: Floats | None, allowed: Allowed | None = None) -> BadRequest | ArithmeticError:
    """The error of a target without any weight: the caller's where a grammar or `min_tokens` took it, else a defect."""
    if allowed is not None and not allowed.count:
        return BadRequest(
            "The answer's grammar, or the tokens and words that the request allows and bans, leave no token here, not "
            "even the answer's end."
        )
    if shifts is not None and np.isneginf(shifts).any():
        return BadRequest(
            "`min_tokens` forbids the tokens that end the answer, and no other is left to choose: ask for fewer"
            " min_tokens or stop_token_ids.",
            param="min_tokens",
        )
    return ArithmeticError("no id has any weight")


def target(corrected: Corrected, params: SamplingParams, history: History, guard: Guard | None = None) -> Target:
    """The distribution that the next token is drawn from."""
    allowed = history.allowed()
    if guard is not None and guard.acts(corrected, params):
        shifts = history.bans(corrected) if guard.unbiased else history.shifts(corrected)
        return Target(corrected, guard.narrowed(params), shifts, allowed)
    return Target(corrected, params, history.shifts(corrected), allowed)


def keep_probable(probs: Floats, params: SamplingParams) -> None:
    """Set to 0, in place, what min_p, top_k and top_p cut off; `probs` [V] need not sum to 1; ties keep low ids."""
    if params.min_p > 0.0:
        probs[probs < params.min_p * probs.max()] = 0.0
    if params.top_k <= 0 and params.top_p >= 1.0:
        return
    ids = _nucleus(probs, params)
    survivors = probs[ids]
    probs[:] = 0.0
    probs[ids] = survivors


def _nucleus(probs: Floats, params: SamplingParams) -> Ids:
    """Ids that top_k, then top_p over what top_k left, keep; most probable first."""
    need = min(params.top_k, probs.size) if params.top_k > 0 else probs.size
    total = None if params.top_k > 0 else float(probs.sum())
    for size in (min(max(need if params.top_k > 0 else 0, _FIRST_SORT), probs.size), probs.size):
        order = largest(probs, size)[:need]
        mass = np.cumsum(probs[order])
        goal = params.top_p * (float(mass[-1]) if total is None else total)
        if params.top_p >= 1.0:
            return order
        if order.size == need or mass[-1] >= goal:
            return order[: int(np.searchsorted(mass, goal)) + 1]
    raise AssertionError("the whole vocabulary holds the whole mass")
