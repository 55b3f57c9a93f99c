"""From what the rows said to weights of the explicit ids: the host's part, in float64, for a batch at once."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from deltaserve.offset_models.engine.deciding.questions import Bools, Questions
from deltaserve.server.decoding.protocols import Floats, Ids

NO_ID = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Weighed:
    """R questions with the weights of their explicit ids, [R, H] where ids repeat as in `Questions`."""

    questions: Questions
    base: Floats  # [R, H] log p_o
    offset: Floats  # [R, H]
    most_outside: Floats  # [R] the largest offset of the ids that are not explicit
    log_scale: Floats | None = None  # [R]; None: not asked for, since nothing is imputed
    at_one: Floats | None = None  # [R] log Σ exp(w) of the tail

    @cached_property
    def log_black_box(self) -> Floats:
        """ℓ of K, log p̂_M of the others; shape [R, H]."""
        asked = self.questions
        told = np.where(self.base > -math.inf, asked.told, -math.inf)  # padded rows of M are no tokens
        if self.log_scale is None:
            return told
        imputed = np.minimum(self.base + self.log_scale[:, None], asked.log_cap[:, None])
        imputed[self.log_scale == -math.inf] = -math.inf
        black_box: Floats = np.where(asked.is_told, told, imputed)
        return black_box

    @cached_property
    def before(self) -> Floats:
        """[R, H] ℓ + offset: log q up to a constant, before penalties."""
        return self.log_black_box + self.offset

    @cached_property
    def log_z(self) -> Floats:
        """log Z, shape [R]."""
        if self.at_one is None:
            raise ValueError("the tail was not summed up")
        head = np.where(self.questions.is_explicit, self.before, -math.inf)
        with np.errstate(invalid="ignore"):  # of a row that the core decides
            return np.logaddexp(row_log_sum_exp(head), self.at_one)

    @cached_property
    def shifts(self) -> Floats | None:
        """[R, H] what penalties, bias and bans add; None: nothing anywhere."""
        asked = self.questions
        if asked.additive is None or asked.repeated is None:
            return asked.additive
        with np.errstate(invalid="ignore"):  # where nothing has any weight there is no log q, and no token either
            log_q = self.before - self.log_z[:, None]
        penalty = np.array([question.params.repetition_penalty for question in asked.each])[:, None] - 1.0
        counts = asked.repeated & np.isfinite(log_q)
        return asked.additive + np.where(counts, log_q, 0.0) * penalty

    @cached_property
    def weights(self) -> Floats:
        """[R, H] as a target weighs them, before temperature."""
        return self.before if self.shifts is None else self.before + self.shifts

    @cached_property
    def peak(self) -> Floats:
        """[R] the largest of them; -inf where no id is explicit."""
        peaks: Floats = np.where(self.questions.explicit > 0, self.weights.max(-1), -math.inf)
        return peaks

    @cached_property
    def certified(self) -> Bools:
        """[R] whether no id outside K can weigh more than the best of K, whatever M's tail is."""
        asked = self.questions
        columns = np.arange(asked.ids.shape[1])
        listed, extra = columns < asked.listed[:, None], columns >= asked.listed[:, None]
        best = np.where(listed, self.weights, -math.inf).max(-1)
        shifted = self.offset if self.shifts is None else self.offset + self.shifts
        others = extra & asked.is_explicit & (self.base > -math.inf)
        bound = np.maximum(self.most_outside, np.where(others, shifted, -math.inf).max(-1))
        repeating = np.array([question.params.repetition_penalty != 1.0 for question in asked.each])
        certain: Bools = (asked.listed > 0) & ~repeating & (best >= asked.log_cap + bound)
        return certain

    def best_explicit(self) -> Ids:
        """The heaviest explicit id; among equals the proposed one, then the lowest; shape [R]."""
        asked = self.questions
        equals = (self.weights == self.peak[:, None]) & asked.is_explicit
        proposed = np.array([-1 if q.proposal.token_id is None else q.proposal.token_id for q in asked.each])
        preferred = (equals & (asked.ids == proposed[:, None])).any(-1)
        lowest = np.where(equals, asked.ids, NO_ID).min(-1)
        return np.where(preferred, proposed, lowest)


def row_log_sum_exp(values: Floats) -> Floats:
    """log Σ exp over the last axis; -inf for a row of -inf."""
    peak = np.maximum(values.max(-1), -1e300)
    with np.errstate(divide="ignore"):
        sums: Floats = np.log(np.exp(values - peak[:, None]).sum(-1)) + peak
    return sums
