"""Accept or draw anew among the explicit ids: `verify` for a batch, as far as the tail is not needed one by one."""

from dataclasses import dataclass

import numpy as np

from deltaserve.offset_models.engine.deciding.nucleus import Heads
from deltaserve.offset_models.engine.deciding.questions import Bools, Question, Questions
from deltaserve.server.decoding.protocols import Floats, Ids

IN_TAIL, OPEN = -1, -2  # in place of a token: it is one of the tail's; the whole vocabulary decides


@dataclass(frozen=True, slots=True)
class HeadDraw:
    """For each of R questions."""

    tokens: Ids  # [R] or IN_TAIL, OPEN
    rest: Floats  # [R] of a draw that fell into the tail: a uniform number, to draw there with
    drafts: Floats  # [R, H] p̂ on K; zeros where it is not known how the proposal was drawn
    known: Bools  # [R] whether it is


def _draft_probs(asked: Questions) -> tuple[Floats, Bools]:
    """(p̂ on K [R, H], whether it is known how the proposal was drawn [R]); zeros where it is not."""
    listed = np.arange(asked.ids.shape[1]) < asked.listed[:, None]
    drawn_at = np.array([_drawn_at(question) for question in asked.each])
    proposed = np.array([-1 if q.proposal.token_id is None else q.proposal.token_id for q in asked.each])
    known = (drawn_at > 0.0) & ((asked.ids == proposed[:, None]) & listed).any(-1)
    scale = np.where(known, drawn_at, 1.0)[:, None]
    weights = np.where(listed & known[:, None], np.exp((asked.told - asked.told[:, :1]) / scale), 0.0)
    return weights / np.maximum(weights.sum(-1, keepdims=True), np.finfo(np.float64).tiny), known


def _drawn_at(question: Question) -> float:
    """Temperature of a draft whose distribution counts; 0: nothing is known, or it does not matter."""
    if question.noise.seeded or question.drawn_from is not None:
        return 0.0
    return question.draft_temperature or 0.0


def head_draw(asked: Questions, target: Heads, uniforms: Floats) -> HeadDraw:
    """`uniforms` [R, 2]: the first accepts a draft, else the last draws. Without a draft the first one draws."""
    drafts, known = _draft_probs(asked)
    proposed = np.array([-1 if q.proposal.token_id is None else q.proposal.token_id for q in asked.each])
    at = asked.ids == proposed[:, None]
    draft_at, target_at = (drafts * at).max(-1), (np.where(at, target.probs, 0.0)).max(-1)
    accepted = known & (uniforms[:, 0] * draft_at < target_at)
    head = np.maximum(target.probs - drafts, 0.0)
    nothing = (head.sum(-1) + target.tail) <= 0.0  # only rounding
    head[nothing] = target.probs[nothing]
    mass = head.cumsum(-1)
    uniform = np.where(known, uniforms[:, 1], uniforms[:, 0]) * (mass[:, -1] + target.tail)
    column = np.minimum((mass <= uniform[:, None]).sum(-1), asked.ids.shape[1] - 1)
    tokens = np.where(accepted, proposed, asked.ids[np.arange(len(asked)), column])
    in_tail = ~accepted & (uniform >= mass[:, -1]) & (target.tail > 0.0)
    tokens = np.where(in_tail, IN_TAIL, tokens)
    for row, question in enumerate(asked.each):
        if question.noise.seeded and target.known[row] and target.tail[row] == 0.0:
            tokens[row] = _gumbel(question, asked.ids[row], target.probs[row])
        elif question.noise.seeded or question.drawn_from is not None or question.keeps or not target.known[row]:
            tokens[row] = OPEN
    rest = (uniform - mass[:, -1]) / np.maximum(target.tail, np.finfo(np.float64).tiny)
    return HeadDraw(tokens, np.clip(rest, 0.0, 1.0 - 2.0**-53), drafts, known)


def _gumbel(question: Question, ids: Ids, probs: Floats) -> int:
    """argmax_i (log q̃(i) + G(i)) over the explicit ids, which have all the weight."""
    noise = question.noise.gumbel(question.history.length, int(ids.max()) + 1)
    with np.errstate(divide="ignore"):
        return int(ids[np.argmax(np.log(probs) + noise[ids])])
