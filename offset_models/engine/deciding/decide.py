"""Decisions about many positions at once, beside their rows: the batched form of the numpy core.

One view of the rows answers most questions, in one copy from the device. Greedy questions whose list does not prove the
answer take a second one, draws that reach into the tail a third. `server/decoding` is the definition: what is rare and
dear (guards, explanations, a cap that bites far down the tail) is decided by it, from the same rows.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from deltaserve.offset_models.engine.deciding.by_core import by_core, expected_by_core, needs_core
from deltaserve.offset_models.engine.deciding.looking import Placed, Rows, certificate_view, full_view
from deltaserve.offset_models.engine.deciding.questions import Question, Questions
from deltaserve.offset_models.engine.deciding.reducing import largest_at
from deltaserve.offset_models.engine.deciding.resolving import Full, Outcome, certified_only, not_finite
from deltaserve.offset_models.engine.offset_rows import DeviceRow
from deltaserve.server.decoding.deciding.blind import LIKELY_NATS, STRONG_NATS
from deltaserve.server.decoding.deciding.naming import likely_names
from deltaserve.server.decoding.protocols import NO_IDS, Ids


@torch.inference_mode()
def decide(base: Tensor, offset: Tensor, questions: Sequence[Question]) -> list[Outcome]:
    """One outcome for each question, which is about the row of the same number: [R, V] float32 each, on one device.

    `Drafted` for questions that keep what the token is drawn from, an exception where nothing can be decided:
    OffsetUnavailable for a row that is not finite, else what the core raises.
    """
    rows = Rows(base, offset)
    core = [i for i, question in enumerate(questions) if needs_core(question)]
    simple = [i for i, question in enumerate(questions) if i not in core and question.simple]
    found: dict[int, Outcome] = {}
    if simple:
        _settle(found, simple, _certified(rows.take(simple), [questions[i] for i in simple]))
    rest = [i for i in range(len(questions)) if i not in found and i not in core and not questions[i].may_want_names]
    if rest:
        _settle(found, rest, _fully(rows.take(rest), [questions[i] for i in rest]))
    core = [i for i in range(len(questions)) if i not in found]
    finite = rows.finite().tolist() if core else []
    for i in core:
        found[i] = _attempt(rows, questions[i], i) if finite[i] else not_finite()
    return [found[i] for i in range(len(questions))]


def _settle(found: dict[int, Outcome], which: list[int], outcomes: Sequence[Outcome | None]) -> None:
    found.update((i, outcome) for i, outcome in zip(which, outcomes, strict=True) if outcome is not None)


def _certified(rows: Rows, questions: Sequence[Question]) -> list[Outcome | None]:
    asked = Questions.of(questions)
    table = certificate_view(rows, Placed.of(asked, rows.base.device))
    return certified_only(asked, table.cpu().numpy())


def _fully(rows: Rows, questions: Sequence[Question]) -> list[Outcome | None]:
    asked = Questions.of(questions)
    top = min(max(question.params.top_logprobs or 0 for question in questions), rows.base.shape[1])
    unlike_one = bool((asked.temperature != 1.0).any())
    table, tails = full_view(rows, Placed.of(asked, rows.base.device), unlike_one=unlike_one, top=top)
    return Full(asked, table.cpu().numpy(), tails, rows, top).outcomes()


def _attempt(rows: Rows, question: Question, at: int) -> Outcome:
    try:
        return by_core(question, rows, at)
    except Exception as error:  # noqa: BLE001  (of this question alone)
        return error


@torch.inference_mode()
def expected(base: Tensor, offset: Tensor, questions: Sequence[Question]) -> list[int | None]:
    """`Corrector.expected` for each row, [R, V] float32 on one device; None for a row that is not finite, too."""
    rows = Rows(base, offset)
    alone = largest_at(base + offset)[:, None]
    columns = [alone, base.gather(1, alone), offset.gather(1, alone), rows.finite()[:, None]]
    table = torch.cat([column.double() for column in columns], 1).tolist()
    return [_expected(rows, at, table[at], question) for at, question in enumerate(questions)]


def _expected(rows: Rows, at: int, alone: Sequence[float], question: Question) -> int | None:
    """`alone`: the best id of the pair, its log p_o and its offset; whether the row is finite."""
    token_id, base, offset, finite = alone
    if not finite:
        return None
    if question.history.held or question.history.touched().size:
        return expected_by_core(question, rows, at)
    strong = offset >= STRONG_NATS and offset + base >= LIKELY_NATS
    return int(token_id) if strong and int(token_id) not in question.params.final_ids else None


def lifted(base: Tensor, offset: Tensor, questions: Sequence[Question]) -> list[Ids]:
    """`Corrector.lifted` for each row, [R, V] float32 on one device; none for a row that is not finite."""
    rows = Rows(base, offset)
    return [
        likely_names(DeviceRow(base[at], offset[at]), question.policy.asking)
        if finite and question.policy.asking is not None
        else NO_IDS
        for at, (finite, question) in enumerate(zip(rows.finite().tolist(), questions, strict=True))
    ]
