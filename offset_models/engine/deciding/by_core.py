"""Rare questions, decided by the numpy core itself on rows that stay where they are."""

from dataclasses import replace

import numpy as np
import torch

from deltaserve.errors import BadRequest
from deltaserve.offset_models.engine.deciding.looking import Rows
from deltaserve.offset_models.engine.deciding.questions import Question
from deltaserve.offset_models.engine.deciding.resolving import Drafted
from deltaserve.offset_models.engine.offset_rows import DeviceRow
from deltaserve.server.decoding.deciding.agreement import local_agreement, upstream_agreement
from deltaserve.server.decoding.deciding.blind import blind_target, expected_token
from deltaserve.server.decoding.deciding.corrector import Agreement, Decision
from deltaserve.server.decoding.deciding.from_row import decide_from_row
from deltaserve.server.decoding.sampling import Target


def needs_core(question: Question) -> bool:
    """Whether something is asked for that the batch does not do: an explanation, a constraint, a guard that may act."""
    guard, params = question.policy.guard, question.params
    guarded = guard is not None and (params.temperature > 0.0 or (guard.unbiased and params.biased))
    return bool(question.policy.explain) or question.history.held or guarded


def by_core(question: Question, rows: Rows, at: int) -> Decision | Drafted:
    """As the core decides it. Raises what it raises."""
    with np.errstate(divide="ignore", invalid="ignore"):  # of ids without any weight
        return _by_core(question, rows, at)


def _by_core(question: Question, rows: Rows, at: int) -> Decision | Drafted:
    row = DeviceRow(rows.base[at], rows.offset[at])
    decision, goal = decide_from_row(
        row,
        question.proposal,
        question.params,
        question.policy,
        question.history,
        question.noise,
        question.draft_temperature,
        None if question.drawn_from is None else question.drawn_from.cpu().numpy(),
    )
    if question.observed:
        decision = replace(decision, agreement=_agreement(question, row, goal, decision.token_id))
    return Drafted(decision, torch.from_numpy(goal.probs).to(rows.base.device)) if question.keeps else decision


def _agreement(question: Question, row: DeviceRow, goal: Target, token_id: int) -> Agreement:
    seeded, guessed = question.noise.seeded, question.draft_temperature is None
    upstream = upstream_agreement(goal, question.proposal, token_id, seeded, guessed=guessed)
    return Agreement(upstream, local_agreement(goal, _blind(question, row), seeded) if question.local else None)


def _blind(question: Question, row: DeviceRow) -> Target:
    return blind_target(row, question.params, question.history, question.policy.guard)


def expected_by_core(question: Question, rows: Rows, at: int) -> int | None:
    """`Corrector.expected` of one position; None where no token has any weight."""
    row = DeviceRow(rows.base[at], rows.offset[at])
    try:
        return expected_token(row, _blind(question, row))
    except (BadRequest, ArithmeticError):  # no token is left: whoever decides this position says so
        return None
