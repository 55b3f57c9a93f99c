"""Rare questions, decided by the numpy core itself on rows that stay where they are."""

from deltaserve.offset_models.engine.deciding.looking import Rows
from deltaserve.offset_models.engine.deciding.questions import Question
from deltaserve.offset_models.engine.offset_rows import DeviceRow
from deltaserve.server.decoding.deciding.blind import blind_target, expected_token
from deltaserve.server.decoding.deciding.corrector import Decision
from deltaserve.server.decoding.deciding.from_row import decide_from_row


def needs_core(question: Question) -> bool:
    """Whether something is asked for that the batch does not do: an explanation, or a guard that may act."""
    guard, params = question.policy.guard, question.params
    guarded = guard is not None and (params.temperature > 0.0 or (guard.unbiased and params.biased))
    return bool(question.policy.explain) or guarded


def by_core(question: Question, rows: Rows, at: int) -> Decision:
    """As the core decides it. Raises what it raises."""
    decision, _ = decide_from_row(
        DeviceRow(rows.base[at], rows.offset[at]),
        question.proposal,
        question.params,
        question.policy,
        question.history,
        question.noise,
        question.draft_temperature,
        None if question.drawn_from is None else question.drawn_from.cpu().numpy(),
    )
    return decision


def expected_by_core(question: Question, rows: Rows, at: int) -> int | None:
    """`Corrector.expected` of one position."""
    row = DeviceRow(rows.base[at], rows.offset[at])
    return expected_token(row, blind_target(row, question.params, question.history, question.policy.guard))
