"""Forward passes of the pair over training rows: log p and log q at every answer position."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from transformers import PreTrainedModel

from deltaserve.offset_models.training.learning.distribution import Positions, corrected, imputed_logprobs
from deltaserve.offset_models.training.learning.initial import InitialStates, half, last_states, logits_of
from deltaserve.offset_models.training.learning.settings import TrainingSettings
from deltaserve.offset_models.training.learning.student import Student
from deltaserve.offset_models.training.rows.samples import Sample
from deltaserve.offset_models.training.rows.scored import Scored, TopK

ROWS_A_PASS: Final = 12


@dataclass(frozen=True, slots=True)
class ModelLogprobs:
    """What the three models say at answer positions, before any correction."""

    log_p: Tensor  # [n, V] the black box, tail imputed; constant
    log_o: Tensor  # [n, V] constant; −inf for rows that are no token, as in all three
    log_u: Tensor  # [n, V]
    targets: Tensor  # [n]
    sequences: Tensor  # [n]
    after_misread: Tensor  # [n] whether something before it in the answer was read wrong

    @property
    def offset(self) -> Tensor:
        """δ [n, V]; 0 for rows that are no token."""
        return (self.log_u - self.log_o).nan_to_num(nan=0.0)


def positions(
    student: Student,
    batch: Sequence[Scored],
    settings: TrainingSettings,
    *,
    served: bool = False,
    initial: InitialStates | None = None,
) -> Positions:
    """log p and log q at every answer position; sequences are numbered as the batch has them.

    Rows of like length go through the models together, so positions come ordered by length. `served`: log q as the
    checkpoint will give it, at its strength and behind its gate. With `initial`, o's states of a row are computed
    once.
    """
    order = sorted(range(len(batch)), key=lambda row: len(batch[row][0].ids))
    parts = [order[start : start + ROWS_A_PASS] for start in range(0, len(order), ROWS_A_PASS)]
    done = [
        _positions(_raw(student, [batch[row] for row in rows], rows, settings, initial), settings, served)
        for rows in parts
    ]
    names = ("log_p", "log_q", "log_u", "targets", "sequences", "after_misread")
    return done[0] if len(done) == 1 else Positions(*(torch.cat([getattr(p, name) for p in done]) for name in names))


def logprob_parts(
    student: Student, rows: Sequence[Scored], settings: TrainingSettings, initial: InitialStates | None = None
) -> Iterator[ModelLogprobs]:
    """All rows, a few at a time, before any correction; sequences are numbered from 0 in each part."""
    for start in range(0, len(rows), ROWS_A_PASS):
        part = rows[start : start + ROWS_A_PASS]
        yield _raw(student, part, range(len(part)), settings, initial)


def _positions(raw: ModelLogprobs, settings: TrainingSettings, served: bool) -> Positions:
    strength, gate_nats = (
        (settings.served_strength, settings.served_gate_nats) if served else (settings.trained_strength, 0.0)
    )
    log_q = corrected(raw.log_p, raw.log_o, raw.log_u, strength, gate_nats)
    return Positions(raw.log_p, log_q, raw.log_u, raw.targets, raw.sequences, raw.after_misread)


def _raw(
    student: Student,
    batch: Sequence[Scored],
    numbers: Sequence[int],
    settings: TrainingSettings,
    initial: InitialStates | None,
) -> ModelLogprobs:
    device, samples = student.unlearned.device, [sample for sample, _ in batch]
    ids, where, sequences = (part.to(device) for part in answer_places(samples, numbers))
    with torch.no_grad(), student.initial() as o:
        if initial is None or half(settings, device):  # bfloat16 rounds a row otherwise when it is alone: u = o no more
            log_o = logprobs_at(o, ids, where, settings)
        else:
            log_o = logprobs_of(o, torch.cat([initial.of(o, sample, settings) for sample in samples]), settings)
        log_p = _black_box([top for _, top in batch], log_o)
    log_u = logprobs_at(student.unlearned, ids, where, settings)
    targets = torch.tensor([token for sample in samples for token in sample.answer_ids], device=device)
    after_misread = torch.tensor([wrong for sample in samples for wrong in sample.after_misread], device=device)
    return ModelLogprobs(log_p, log_o, log_u, targets, sequences, after_misread)


def answer_places(samples: Sequence[Sample], numbers: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Padded ids [sequences, length], flat places of the positions that predict answers [n], their numbers [n]."""
    ids = padded([sample.ids for sample in samples])
    length = ids.shape[1]
    starts = [row * length + len(sample.prompt_ids) - 1 for row, sample in enumerate(samples)]
    places = [start + i for start, sample in zip(starts, samples, strict=True) for i in range(len(sample.answer_ids))]
    sequences = [number for number, sample in zip(numbers, samples, strict=True) for _ in sample.answer_ids]
    return ids, torch.tensor(places), torch.tensor(sequences)


def logprobs_at(model: PreTrainedModel, ids: Tensor, where: Tensor, settings: TrainingSettings) -> Tensor:
    """log-probabilities at flat places: [n, V] float32; −inf for rows that are no token."""
    return logprobs_of(model, last_states(model, ids, settings)[where], settings)


def logprobs_of(model: PreTrainedModel, states: Tensor, settings: TrainingSettings) -> Tensor:
    """The same from last hidden states [n, hidden]."""
    logits = logits_of(model, states, settings)
    if settings.vocab_size is not None:
        logits[:, settings.vocab_size :] = -torch.inf
    if settings.masked_ids:
        logits[:, list(settings.masked_ids)] = -torch.inf
    return logits.log_softmax(1)


def padded(rows: Sequence[Sequence[int]], fill: int = 0) -> Tensor:
    """Ids [rows, length], filled up on the right, where causal attention never looks."""
    length = max(map(len, rows))
    return torch.tensor([[*row, *[fill] * (length - len(row))] for row in rows])


def _black_box(tops: Sequence[TopK | None], initial: Tensor) -> Tensor:
    """log p [n, V] of a batch; o's own where nothing was collected."""
    listed = [top for top in tops if top is not None]
    if not listed:
        return initial
    if len(listed) != len(tops):
        raise ValueError("A batch has the black box's top-k for all of its rows or for none.")
    ids = torch.cat([torch.from_numpy(top.ids) for top in listed]).to(initial.device)
    logprobs = torch.cat([torch.from_numpy(top.logprobs) for top in listed]).to(initial.device)
    return imputed_logprobs(ids, logprobs, initial)
