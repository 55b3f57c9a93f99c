"""From what the rows said to decisions, on the host. What these cannot settle is left open (None)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from deltaserve.errors import OffsetUnavailable
from deltaserve.offset_models.engine.deciding.dense import Draw, draw
from deltaserve.offset_models.engine.deciding.looking import Rows, Tails
from deltaserve.offset_models.engine.deciding.nucleus import heads
from deltaserve.offset_models.engine.deciding.questions import Bools, Question, Questions
from deltaserve.offset_models.engine.deciding.sampled import IN_TAIL, HeadDraw, head_draw
from deltaserve.offset_models.engine.deciding.weighing import Weighed
from deltaserve.offset_models.engine.upload import upload
from deltaserve.server.decoding.deciding.corrector import Agreement, Decision
from deltaserve.server.decoding.protocols import Floats, Ids
from deltaserve.server.decoding.sampling import nothing_left


@dataclass(frozen=True, slots=True, eq=False)
class Drafted:
    """A token that the pair drafted, and what it was drawn from."""

    decision: Decision
    drawn_from: Tensor  # [V] float64, on the device


Outcome = Decision | Drafted | Exception


def not_finite() -> OffsetUnavailable:
    return OffsetUnavailable("the offset pair gave a row that is not a finite distribution")


def certified_only(asked: Questions, table: Floats) -> list[Outcome | None]:
    """Of simple questions, from `certificate_view`: decisions where the list proves the answer."""
    h = asked.ids.shape[1]
    weighed = Weighed(asked, table[:, :h], table[:, h : 2 * h], table[:, 2 * h])
    certain = (weighed.certified & (weighed.peak > -np.inf)).tolist()
    best = weighed.best_explicit().tolist()
    first = (asked.ids[:, 0] == np.array(best)).astype(np.float64).tolist()
    finite, mass = table[:, 2 * h + 1].tolist(), asked.mass.tolist()
    return [
        Decision(best[i], True, mass[i], agreement=Agreement(first[i], None) if question.observed else None)
        if finite[i] and certain[i]
        else None
        if finite[i]
        else not_finite()
        for i, question in enumerate(asked.each)
    ]


class Full:
    """Questions of any kind, from `full_view`."""

    def __init__(self, asked: Questions, table: Floats, tails: Tails, rows: Rows, top: int) -> None:
        h = asked.ids.shape[1]
        self.asked, self.tails, self.rows, self.top = asked, tails, rows, top
        (outside, finite, scale, self.tail_peak, self.tail_best) = table[:, 2 * h : 2 * h + 5].T
        (self.tempered, at_one, self.alone, _, _) = table[:, 2 * h + 5 : 2 * h + 10].T
        self.heaviest = table[:, 2 * h + 10 :]
        self.weighed = Weighed(asked, table[:, :h], table[:, h : 2 * h], outside, scale, at_one)
        self.finite, self.sure = finite > 0.0, ~np.isnan(scale)
        self.tokens: Ids = np.zeros(len(asked), np.int64)
        self.tail_weights: Floats = np.full(len(asked), -np.inf)
        self.probs: Floats = np.zeros(asked.ids.shape)  # q̃ at the explicit ids of sampled questions
        self.drawn_from: dict[int, Tensor] = {}

    def outcomes(self) -> list[Outcome | None]:
        """None where the core has to decide: it must look further down the tail than this view does."""
        asked = self.asked
        weight = np.maximum(self.weighed.peak, self.tail_peak) > -np.inf
        ready = self.finite & self.sure & weight
        self._choose_greedy()
        if (sampled := np.flatnonzero(ready & ~self._greedy)).size:
            self._draw(sampled)
        return [self._outcome(i, bool(weight[i])) for i in range(len(asked))]

    def _choose_greedy(self) -> None:
        in_tail = ~self.weighed.certified & (self.tail_peak > self.weighed.peak)
        self.tokens = np.where(in_tail, self.tail_best.astype(np.int64), self.weighed.best_explicit())
        self.tail_weights = np.where(in_tail, self.tail_peak, -np.inf)

    def _draw(self, sampled: Ids) -> None:
        asked = self.asked
        uniforms = np.array([_uniforms(question) for question in asked.each])
        target = heads(self.weighed, self.tail_peak, self.tempered)
        drawn = head_draw(asked, target, uniforms)
        self.probs[sampled] = target.probs[sampled]
        far: list[Draw] = []
        for i in sampled.tolist():
            self.tokens[i] = drawn.tokens[i]
            if drawn.tokens[i] < 0:
                rest = float(drawn.rest[i])
                in_tail = int(drawn.tokens[i]) == IN_TAIL
                far.append(self._in_tail(i, rest) if in_tail else self._anywhere(i, uniforms[i], drawn))
        if far:
            self._draw_far(far)

    def _in_tail(self, i: int, rest: float) -> Draw:
        question, h = self.asked.each[i], int(self.asked.explicit[i])
        params = question.params.unfiltered()
        return Draw(i, params, self.asked.ids[i, :h], np.full(h, -np.inf), (rest, rest))

    def _anywhere(self, i: int, uniforms: Floats, drawn: HeadDraw) -> Draw:
        question, h = self.asked.each[i], int(self.asked.explicit[i])
        one = Draw(i, question.params, self.asked.ids[i, :h], self.weighed.weights[i, :h], (uniforms[0], uniforms[0]))
        if question.noise.seeded:
            one.gumbel = question.noise.gumbel(question.history.length, self.rows.base.shape[1])
            return one
        if drawn.known[i] or (question.drawn_from is not None and question.proposal.token_id is not None):
            one.uniforms = (float(uniforms[0]), float(uniforms[1]))
            one.proposed, one.drawn_from = question.proposal.token_id, question.drawn_from
            k = question.proposal.top_ids.size
            one.draft_ids, one.draft_probs = question.proposal.top_ids, drawn.drafts[i, :k]
        return one

    def _draw_far(self, far: Sequence[Draw]) -> None:
        found = draw(self.tails, far)
        for n, one in enumerate(far):
            self.tokens[one.row], self.tail_weights[one.row] = found.tokens[n], found.tail_weights[n]
            if np.isfinite(one.weights).any() or not one.ids.size:  # not of the tail alone
                self.probs[one.row, : one.ids.size] = found.probs_at[n]
            if self.asked.each[one.row].keeps:
                self.drawn_from[one.row] = found.probs[n]

    def _outcome(self, i: int, weight: bool) -> Outcome | None:
        if not self.finite[i]:
            return not_finite()
        if not self.sure[i]:
            return None
        if not weight or self.tokens[i] < 0:
            shifts = self.weighed.shifts
            return nothing_left(None if shifts is None else shifts[i])
        decision = self._decision(i)
        return Drafted(decision, self.drawn_from[i]) if i in self.drawn_from else decision

    def _decision(self, i: int) -> Decision:
        question, token_id = self.asked.each[i], int(self.tokens[i])
        wanted = question.params.top_logprobs
        return Decision(
            token_id,
            bool(self.weighed.certified[i]) if question.greedy else None,
            float(self.asked.mass[i]),
            None if wanted is None else self._log_q(i, token_id),
            self._most_probable(i, wanted) if wanted else None,
            agreement=Agreement(self._upstream[i], self._local(i, question, token_id)) if question.observed else None,
        )

    def _log_q(self, i: int, token_id: int) -> float:
        at = np.flatnonzero(self.asked.ids[i, : self.asked.explicit[i]] == token_id)
        weight = self.weighed.before[i, at[0]] if at.size else self.tail_weights[i]
        return float(weight - self.weighed.log_z[i])

    def _most_probable(self, i: int, n: int) -> tuple[Ids, Floats]:
        """`ranking.most_probable`, of the explicit ids and the heaviest of the tail."""
        h, k = int(self.asked.explicit[i]), int(self.asked.listed[i])
        weights = np.concatenate((self.weighed.before[i, :h], self.heaviest[i, : self.top]))
        ids = np.concatenate((self.asked.ids[i, :h], self.heaviest[i, self.top :].astype(np.int64)))
        order = np.lexsort((ids, np.arange(ids.size) >= k, -weights))[:n]
        order = order[weights[order] > -np.inf]
        return ids[order], weights[order] - self.weighed.log_z[i]

    @cached_property
    def _upstream(self) -> list[float]:
        """`upstream_agreement` of each question, [R]."""
        asked = self.asked
        listed = np.arange(asked.ids.shape[1]) < asked.listed[:, None]
        drafts = np.where(listed, np.exp((asked.told - asked.told[:, :1]) / asked.temperature[:, None]), 0.0)
        drafts /= np.maximum(drafts.sum(-1, keepdims=True), np.finfo(np.float64).tiny)
        said = listed & (asked.ids == self.tokens[:, None])
        probs = np.where(listed, self.probs, 0.0)
        shared = np.where(self._guessed[:, None], probs * drafts, np.minimum(probs, drafts)).sum(-1)
        seeded = np.array([question.noise.seeded for question in asked.each])
        sampled = np.where(seeded, (drafts * said).sum(-1), shared)
        agreed: list[float] = np.where(self._greedy, said[:, 0], sampled).tolist()
        return agreed

    @cached_property
    def _guessed(self) -> Bools:
        return np.array([question.draft_temperature is None for question in self.asked.each])

    @cached_property
    def _greedy(self) -> Bools:
        return np.array([question.greedy for question in self.asked.each])

    def _local(self, i: int, question: Question, token_id: int) -> float | None:
        """As `local_agreement`; filters and penalties are left out."""
        if not question.local:
            return None
        if question.greedy:
            return float(int(self.alone[i]) == token_id)
        h, device = int(self.asked.explicit[i]), self.tails.weights.device
        weights = self.tails.weights[i].double()
        weights.index_copy_(0, upload(self.asked.ids[i, :h], device), upload(self.weighed.weights[i, :h], device))
        shared = float(_overlap(weights, self.rows.base[i] + self.rows.offset[i], question.params.temperature))
        return shared / (2.0 - shared) if question.noise.seeded else shared


def _overlap(weights: Tensor, alone: Tensor, temperature: float) -> Tensor:
    """Σ min(q̃, q̃ of the pair alone), before filters; `weights` [V] float64, `alone` [V] float32."""
    return torch.minimum((weights / temperature).softmax(0), (alone.double() / temperature).softmax(0)).sum()


def _uniforms(question: Question) -> tuple[float, float]:
    if question.greedy or question.noise.seeded:
        return 0.0, 0.0
    return question.noise.uniform(), question.noise.uniform()
