"""q̃ at the explicit ids of sampled questions, as far as no filter reaches into the tail."""

import math
from dataclasses import dataclass

import numpy as np

from deltaserve.offset_models.engine.deciding.questions import Bools
from deltaserve.offset_models.engine.deciding.weighing import Weighed, row_log_sum_exp
from deltaserve.server.decoding.protocols import Floats

_LEAST = np.finfo(np.float64).tiny


@dataclass(frozen=True, slots=True)
class Heads:
    """For each of R questions."""

    probs: Floats  # [R, H] q̃ at the explicit ids; 0 where an id repeats
    tail: Floats  # [R] q̃ of all others together
    known: Bools  # [R] false where the filters need the vocabulary to be sorted: then the others mean nothing


def heads(weighed: Weighed, tail_peak: Floats, tail_tempered: Floats) -> Heads:
    """`tail_peak` [R] the heaviest weight of the tail, `tail_tempered` [R] its log Σ exp(w / T)."""
    asked = weighed.questions
    temperature = asked.temperature[:, None]
    tempered = np.where(asked.is_explicit, weighed.weights, -math.inf) / temperature
    with np.errstate(invalid="ignore"):  # a row without any weight is an error of its own; the core decides others
        norm = np.logaddexp(row_log_sum_exp(tempered), tail_tempered)
        probs, tail = np.exp(tempered - norm[:, None]), np.exp(tail_tempered - norm)
        tail_best = np.exp(tail_peak / temperature[:, 0] - norm)
    known = np.ones(len(asked), np.bool_)
    rows = [i for i, question in enumerate(asked.each) if question.params.filtered]
    if rows:
        probs[rows], tail[rows], known[rows] = _filtered(weighed, rows, probs[rows], tail[rows], tail_best[rows])
    return Heads(probs, tail, known)


def _filtered(
    weighed: Weighed, rows: list[int], probs: Floats, tail: Floats, tail_best: Floats
) -> tuple[Floats, Floats, Bools]:
    """`keep_probable` among the explicit ids: right where all that it keeps are heavier than the whole tail."""
    params = [weighed.questions.each[i].params for i in rows]
    least = np.array([one.min_p for one in params]) * np.maximum(probs.max(-1), tail_best)
    tail_goes = tail_best < least  # min_p cuts the tail off
    probs = np.where(probs < least[:, None], 0.0, probs)
    order = np.lexsort((weighed.questions.ids[rows], -probs))
    ordered = np.take_along_axis(probs, order, -1)
    width = ordered.shape[1]
    most = np.array([one.top_k if one.top_k > 0 else np.iinfo(np.int64).max for one in params])[:, None]
    ordered = np.where(np.arange(width) >= most, 0.0, ordered)
    before = ordered.cumsum(-1)
    bounded = most[:, 0] <= width
    total = np.where(bounded | tail_goes, before[:, -1], before[:, -1] + tail)
    top_p = np.array([one.top_p for one in params])
    goal = np.where(top_p < 1.0, np.maximum(top_p * total, _LEAST), math.inf)[:, None]
    keep = (before - ordered < goal) & (ordered > 0.0)
    # What decides must outweigh the tail: all of the top_k, since top_p is taken of their mass, else what is kept.
    decides = np.where(bounded[:, None], ordered > 0.0, keep)
    last = np.where(decides, ordered, math.inf).min(-1)
    complete = np.where(bounded, decides.sum(-1) >= most[:, 0], before[:, -1] >= goal[:, 0])
    known = keep.any(-1) & (tail_goes | (tail_best == 0.0) | (complete & (last > tail_best)))
    reaching = (least > 0.0) & ~bounded  # how much of the tail min_p leaves is not known
    wider = np.array([one.top_k > width for one in params])  # nor how much top_k does
    known &= ~(reaching | wider) | tail_goes | (tail_best == 0.0)
    kept = np.zeros_like(probs)
    np.put_along_axis(kept, order, np.where(keep, ordered, 0.0), -1)
    with np.errstate(invalid="ignore"):
        kept /= kept.sum(-1, keepdims=True)
    return kept, np.zeros(len(rows)), known
