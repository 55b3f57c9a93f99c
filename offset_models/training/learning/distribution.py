"""log p and log q at answer positions: the distributions that losses are written on, and that serving samples from.

Legend (docs/how-it-works.md): ℓ `top_logprobs` on K `top_ids`, o initial,
u unlearned, log p imputed (head from the cache, tail with o's shape),
log q(i) = log p(i) + α·(log u(i) − log o(i)) − log Z.
Everything is differentiable through u alone.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from deltaserve.server.decoding.filling import ROUNDING


class Positions(ABC):
    """Answer positions of a batch, those of one sequence next to each other: n of them, over V ids."""

    targets: Tensor  # [n] reference tokens
    sequences: Tensor  # [n] which row of the batch a position belongs to, from 0
    after_misread: Tensor  # [n] whether something before it in the answer was read wrong

    @property
    @abstractmethod
    def log_p(self) -> Tensor:
        """[n, V] the black box, tail imputed; constant."""

    @property
    @abstractmethod
    def log_q(self) -> Tensor:
        """[n, V] corrected."""

    @property
    @abstractmethod
    def log_u(self) -> Tensor:
        """[n, V] the trained small model alone."""

    @property
    @abstractmethod
    def answer_log_p(self) -> Tensor:
        """log p(y*) [n]."""

    @property
    @abstractmethod
    def answer_log_q(self) -> Tensor:
        """log q(y*) [n]."""

    @property
    @abstractmethod
    def answer_log_u(self) -> Tensor:
        """log u(y*) [n]."""

    @property
    @abstractmethod
    def divergence(self) -> Tensor:
        """KL(p ‖ q) of each position [n], nats."""

    @abstractmethod
    def log_u_of(self, token_id: int) -> Tensor:
        """log u of one token at every position [n]."""

    @property
    def lengths(self) -> Tensor:
        """Answer tokens of each sequence [sequences]."""
        return self.per_sequence(torch.ones_like(self.answer_log_q))

    def only(self, wanted: Tensor) -> "Positions":
        """Those of the positions where `wanted` [n] is true; every sequence must keep one."""
        return _Some(self, wanted)

    def per_sequence(self, values: Tensor) -> Tensor:
        """Sums of values [n] over each sequence's positions [sequences]."""
        return per_sequence(values, self.sequences)


class DensePositions(Positions):
    """Written out: what every faster way must agree with."""

    def __init__(self, log_p: Tensor, log_q: Tensor, log_u: Tensor, targets: Tensor, sequences: Tensor) -> None:
        self._log_p, self._log_q, self._log_u = log_p, log_q, log_u
        self.targets, self.sequences = targets, sequences
        self.after_misread = torch.zeros_like(targets, dtype=torch.bool)

    @property
    def log_p(self) -> Tensor:
        return self._log_p

    @property
    def log_q(self) -> Tensor:
        return self._log_q

    @property
    def log_u(self) -> Tensor:
        return self._log_u

    @property
    def answer_log_p(self) -> Tensor:
        return _at(self.log_p, self.targets)

    @property
    def answer_log_q(self) -> Tensor:
        return _at(self.log_q, self.targets)

    @property
    def answer_log_u(self) -> Tensor:
        return _at(self.log_u, self.targets)

    @property
    def divergence(self) -> Tensor:
        alive = self.log_p.isfinite()
        difference = self.log_p.masked_fill(~alive, 0.0) - self.log_q.masked_fill(~alive, 0.0)
        return (self.log_p.exp() * difference).sum(1)

    def log_u_of(self, token_id: int) -> Tensor:
        return self.log_u[:, token_id]


class _Some(Positions):
    """Some of the positions of a batch."""

    def __init__(self, whole: Positions, wanted: Tensor) -> None:
        self._whole, self._wanted = whole, wanted
        self.targets, self.sequences = whole.targets[wanted], whole.sequences[wanted]
        self.after_misread = whole.after_misread[wanted]

    @property
    def log_p(self) -> Tensor:
        return self._whole.log_p[self._wanted]

    @property
    def log_q(self) -> Tensor:
        return self._whole.log_q[self._wanted]

    @property
    def log_u(self) -> Tensor:
        return self._whole.log_u[self._wanted]

    @property
    def answer_log_p(self) -> Tensor:
        return self._whole.answer_log_p[self._wanted]

    @property
    def answer_log_q(self) -> Tensor:
        return self._whole.answer_log_q[self._wanted]

    @property
    def answer_log_u(self) -> Tensor:
        return self._whole.answer_log_u[self._wanted]

    @property
    def divergence(self) -> Tensor:
        return self._whole.divergence[self._wanted]

    def log_u_of(self, token_id: int) -> Tensor:
        return self._whole.log_u_of(token_id)[self._wanted]


def per_sequence(values: Tensor, sequences: Tensor) -> Tensor:
    """Sums of values [n] over the positions of each sequence, which `sequences` [n] numbers: [sequences]."""
    rows = torch.arange(int(sequences.max()) + 1, device=values.device)
    # Not index_add, whose order on GPUs is its own; nor a product, in which one row's -inf spoils the others.
    return values.where(rows[:, None] == sequences[None, :], 0.0).sum(1)


def without_ends(batch: Positions, end_id: int) -> tuple[Positions, Positions]:
    """What is to be pushed away: all but the end of broken answers. And where to end: behind what was read wrong.

    Only answers that end at all are to do so earlier: running text that goes on is not.
    """
    ends = batch.targets == end_id
    ending = (batch.per_sequence(ends.float()) > 0)[batch.sequences]
    return batch.only(~(batch.after_misread & ends)), batch.only(batch.after_misread & ending)


def imputed_logprobs(top_ids: Tensor, top_logprobs: Tensor, base_logprobs: Tensor) -> Tensor:
    """log p̂_M over the whole vocabulary: ℓ on K; outside, min(s·p_o(i), min_K p_M) with the mass r that K leaves.

    top_ids, top_logprobs: [n, k], base_logprobs: [n, V] with −inf for ids the tokenizer does not have. Returns [n, V].
    A list that is shorter than k repeats its last entry, which counts once.
    """
    repeated = torch.zeros_like(top_ids, dtype=torch.bool)
    repeated[:, 1:] = top_ids[:, 1:] == top_ids[:, :-1]
    head = torch.zeros_like(base_logprobs, dtype=torch.bool).scatter_(1, top_ids, True)
    # r is a small difference of numbers near 1: taken in float64.
    listed = top_logprobs.double().exp().masked_fill(repeated, 0.0).sum(1, keepdim=True)
    outside = base_logprobs.masked_fill(head, -torch.inf)
    tail = _filled(outside, 1.0 - listed, top_logprobs.amin(1, keepdim=True))
    return tail.scatter(1, top_ids, top_logprobs).log_softmax(1)


def _filled(outside: Tensor, mass: Tensor, log_cap: Tensor) -> Tensor:
    """log min(s·p_o, cap) [n, V] that holds `mass` [n, 1] float64: what the cap cuts off lifts the others.

    Each pass puts those at the cap that the last scale lifted to it; a few heavy ids, so a few passes.
    """
    at_cap = torch.zeros_like(outside, dtype=torch.bool)
    lowest = torch.finfo(outside.dtype).min  # instead of log 0 where nothing is below the cap: −inf − (−inf) is NaN
    while True:
        left = mass - at_cap.sum(1, keepdim=True) * log_cap.double().exp()
        log_left = left.masked_fill(left < ROUNDING, 0.0).log().to(outside.dtype)
        below = outside.masked_fill(at_cap, -torch.inf).logsumexp(1, keepdim=True)
        filled = outside + (log_left - below.clamp(min=lowest))
        above = (filled > log_cap) & ~at_cap
        if not bool(above.any()):
            return torch.where(at_cap, log_cap, filled)
        at_cap |= above


def corrected(
    log_p: Tensor,
    base_logprobs: Tensor,
    unlearned_logprobs: Tensor,
    strength: float = 1.0,
    gate_nats: float = 0.0,
    divergence: Tensor | None = None,
) -> Tensor:
    """log q from log p̂_M and the pair, all [n, V]; ids that o does not have keep probability 0.

    Behind a gate the offset is 0 at positions where KL(p_u ‖ p_o) is below it, as it is served; `divergence` [n] is
    that where it is not the one of these tables.
    """
    known = base_logprobs.isfinite()
    # Masked on both sides of the difference: −inf − (−inf) would be NaN, in the gradient too.
    unlearned = unlearned_logprobs.masked_fill(~known, 0.0)
    offset = unlearned - base_logprobs.masked_fill(~known, 0.0)
    if gate_nats:
        if divergence is None:
            divergence = (unlearned.exp() * offset).masked_fill(~known, 0.0).sum(1)
        offset = offset.masked_fill((divergence < gate_nats)[:, None], 0.0)
    return (log_p + strength * offset).masked_fill(~known, -torch.inf).log_softmax(1)


def _at(logprobs: Tensor, targets: Tensor) -> Tensor:
    return logprobs.gather(1, targets[:, None]).squeeze(1)
