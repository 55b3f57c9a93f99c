"""The pair as training sees it: plain forward passes of o and u over whole prefixes, for checks."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from offset_models.training.adapter import TrainableLora
from offset_models.training.trainer import Scored, TrainingSettings, logprobs_at, padded, positions


@dataclass(frozen=True, slots=True)
class TrainedPair:
    """o and u = o with a LoRA."""

    base: PreTrainedModel
    lora: TrainableLora
    settings: TrainingSettings

    @torch.no_grad()
    def __call__(self, prefixes: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """log p_o and log p_u at the position after each prefix: two tensors [prefixes, V]."""
        ids = padded(prefixes)
        ends = torch.tensor([row * ids.shape[1] + len(prefix) - 1 for row, prefix in enumerate(prefixes)])
        with self.lora.disabled():
            initial = logprobs_at(self.base, ids, ends, self.settings)
        return initial, logprobs_at(self.base, ids, ends, self.settings)

    @torch.no_grad()
    def answer_logprob(self, rows: Sequence[Scored]) -> tuple[float, float]:
        """Mean log-probability (nats) of the rows' answer tokens: the black box's, and after correction."""
        batch = positions(self.base, self.lora, rows, self.settings)
        where = batch.targets[:, None]
        return batch.log_p.gather(1, where).mean().item(), batch.log_q.gather(1, where).mean().item()
