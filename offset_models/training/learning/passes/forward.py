"""Forward passes of the pair over training rows: log p and log q at every answer position."""

from collections.abc import Iterator, Sequence
from typing import Final

import torch
from torch import Tensor
from transformers import PreTrainedModel

from deltaserve.offset_models.bridge.row import UNTOLD
from deltaserve.offset_models.training.learning.passes.fused import Vocabulary, slices
from deltaserve.offset_models.training.learning.passes.initial import InitialStates, last_states, logits_of
from deltaserve.offset_models.training.learning.passes.pair import Pair, PairPositions
from deltaserve.offset_models.training.learning.passes.reading import Reading
from deltaserve.offset_models.training.learning.passes.tail import Imputed, imputed, unlisted
from deltaserve.offset_models.training.learning.settings import TrainingSettings
from deltaserve.offset_models.training.learning.student import Student
from deltaserve.offset_models.training.rows.scored import Scored, TopK

ROWS_A_PASS: Final = 12


def positions(
    student: Student,
    batch: Sequence[Scored],
    settings: TrainingSettings,
    *,
    served: bool = False,
    initial: InitialStates | None = None,
) -> PairPositions:
    """log p and log q at every answer position; sequences are numbered as the batch has them.

    Rows of like length go through the models together, so positions come ordered by length. `served`: log q as the
    checkpoint will give it, at its strength and behind its gate. With `initial`, o's states of a row are computed
    once.
    """
    order = sorted(range(len(batch)), key=lambda row: len(batch[row][0].ids))
    parts = [order[start : start + ROWS_A_PASS] for start in range(0, len(order), ROWS_A_PASS)]
    pairs = [_pair(student, [batch[row] for row in rows], rows, settings, initial) for rows in parts]
    if served:
        return PairPositions(pairs, settings.served_strength, settings.served_gate_nats)
    return PairPositions(pairs, settings.trained_strength)


def pairs_of(
    student: Student, rows: Sequence[Scored], settings: TrainingSettings, initial: InitialStates | None = None
) -> Iterator[Pair]:
    """All rows, a few at a time, before any correction; sequences are numbered from 0 in each part."""
    for start in range(0, len(rows), ROWS_A_PASS):
        part = rows[start : start + ROWS_A_PASS]
        yield _pair(student, part, range(len(part)), settings, initial)


@torch.no_grad()
def prepare(initial: InitialStates, student: Student, rows: Sequence[Scored], settings: TrainingSettings) -> None:
    """Puts o's states along these rows into `initial`, a few rows at a time in this order, and what their lists say.

    A later evaluation of the same rows in the same order reads exactly what u gives before it is trained: bfloat16
    rounds a row otherwise when others are with it.
    """
    device, vocabulary = student.unlearned.device, vocabulary_of(settings)
    for start in range(0, len(rows), ROWS_A_PASS):
        part = rows[start : start + ROWS_A_PASS]
        if all(initial.known(sample) for sample, _ in part):
            continue
        ids, where = (tensor.to(device) for tensor in read_places(part, student.reading))
        with student.initial() as o:
            states = last_states(o, ids, settings)[where]
            logits = logits_of(o, states, settings)
            shapes = student.reading.shapes(logits, student.reading.tables(logits, part), part)
        lists, answered = _imputed([top for _, top in part], shapes, vocabulary), 0
        of_each = torch.split(states, [len(student.reading.places(row)) for row in part])
        for (sample, _), own in zip(part, of_each, strict=True):
            at = slice(answered, answered := answered + len(sample.answer_ids))
            initial.keep(sample, own, lists.part(at))


def vocabulary_of(settings: TrainingSettings) -> Vocabulary:
    return Vocabulary(settings.vocab_size, settings.masked_ids)


def _pair(
    student: Student,
    batch: Sequence[Scored],
    numbers: Sequence[int],
    settings: TrainingSettings,
    initial: InitialStates | None,
) -> Pair:
    device, samples, vocabulary = student.unlearned.device, [sample for sample, _ in batch], vocabulary_of(settings)
    reading = student.reading
    ids, where = (part.to(device) for part in read_places(batch, reading))
    with torch.no_grad(), student.initial() as o:
        if initial is None:
            states = last_states(o, ids, settings)[where]
        else:
            states = torch.cat([initial.of(o, row, reading, settings) for row in batch])
        logits_o = logits_of(o, states, settings)
        tables = reading.tables(logits_o, batch)
        shapes = reading.shapes(logits_o, tables, batch)
        known = None if initial is None else initial.lists(samples)
        lists = known or _imputed([top for _, top in batch], shapes, vocabulary)
    logits_u = logits_of(student.unlearned, last_states(student.unlearned, ids, settings)[where], settings)
    targets = torch.tensor([token for sample in samples for token in sample.answer_ids], device=device)
    sequences = torch.tensor([n for n, sample in zip(numbers, samples, strict=True) for _ in sample.answer_ids])
    after_misread = torch.tensor([wrong for sample in samples for wrong in sample.after_misread], device=device)
    unlearned = reading.tables(logits_u, batch)
    # Gates are looked at where nothing is learnt, and this reads the whole of both vocabularies' rows.
    divergence = None if torch.is_grad_enabled() else reading.divergence(logits_u, logits_o, batch)
    if shapes is not tables:  # the same δ on other numbers; none where o's rows tell nothing
        unlearned = (unlearned + (shapes - tables)).where(tables > UNTOLD, shapes)
    return Pair(unlearned, shapes, lists, vocabulary, targets, sequences.to(device), after_misread, divergence)


def read_places(rows: Sequence[Scored], reading: Reading) -> tuple[Tensor, Tensor]:
    """Padded ids [sequences, length] as the pair reads them, and flat places of the logits that are needed [m]."""
    ids = padded([reading.ids(row) for row in rows])
    length = ids.shape[1]
    return ids, torch.tensor([number * length + at for number, row in enumerate(rows) for at in reading.places(row)])


def logprobs_at(model: PreTrainedModel, ids: Tensor, where: Tensor, settings: TrainingSettings) -> Tensor:
    """log-probabilities at flat places: [n, V] float32; −inf for rows that are no token."""
    return logprobs_of(model, last_states(model, ids, settings)[where], settings)


def logprobs_of(model: PreTrainedModel, states: Tensor, settings: TrainingSettings) -> Tensor:
    """The same from last hidden states [n, hidden]."""
    logits = logits_of(model, states, settings).float()
    if settings.vocab_size is not None:
        logits[:, settings.vocab_size :] = -torch.inf
    if settings.masked_ids:
        logits[:, list(settings.masked_ids)] = -torch.inf
    return logits.log_softmax(1)


def padded(rows: Sequence[Sequence[int]], fill: int = 0) -> Tensor:
    """Ids [rows, length], filled up on the right, where causal attention never looks."""
    length = max(map(len, rows))
    return torch.tensor([[*row, *[fill] * (length - len(row))] for row in rows])


def _imputed(tops: Sequence[TopK | None], logits: Tensor, vocabulary: Vocabulary) -> Imputed:
    """log p of a batch as few numbers, from z_o [n, V]; o's own where nothing was collected."""
    listed = [top for top in tops if top is not None]
    if not listed:
        return Imputed.joined([unlisted(vocabulary.rows(logits, at)) for at in slices(len(logits))])
    if len(listed) != len(tops):
        raise ValueError("A batch has the black box's top-k for all of its rows or for none.")
    ids = torch.cat([torch.from_numpy(top.ids) for top in listed]).to(logits.device)
    logprobs = torch.cat([torch.from_numpy(top.logprobs) for top in listed]).to(logits.device)
    return Imputed.joined([imputed(ids[at], logprobs[at], vocabulary.rows(logits, at)) for at in slices(len(logits))])
