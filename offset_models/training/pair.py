"""The pair as training sees it: plain forward passes of o and u over whole prefixes, for checks."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from offset_models.training.passes import Scored, logprobs_at, padded, positions
from offset_models.training.settings import TrainingSettings
from offset_models.training.student import Student


@dataclass(frozen=True, slots=True)
class TrainedPair:
    """o and u."""

    student: Student
    settings: TrainingSettings

    @torch.no_grad()
    def __call__(self, prefixes: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """log p_o and log p_u at the position after each prefix: two tensors [prefixes, V]."""
        ids = padded(prefixes)
        ends = torch.tensor([row * ids.shape[1] + len(prefix) - 1 for row, prefix in enumerate(prefixes)])
        with self.student.initial() as model:
            initial = logprobs_at(model, ids, ends, self.settings)
        return initial, logprobs_at(self.student.unlearned, ids, ends, self.settings)

    @torch.no_grad()
    def answer_logprob(self, rows: Sequence[Scored]) -> tuple[float, float]:
        """Mean log-probability (nats) of the rows' answer tokens: the black box's, and after correction."""
        batch = positions(self.student, rows, self.settings, served=True)
        return batch.answer_log_p.mean().item(), batch.answer_log_q.mean().item()
