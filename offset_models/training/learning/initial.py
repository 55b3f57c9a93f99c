"""What o makes of a training row, computed once: o never changes, and rows come again in every epoch and evaluation."""

from typing import Final

import torch
from torch import Tensor
from transformers import PreTrainedModel

from deltaserve.offset_models.training.learning.settings import TrainingSettings
from deltaserve.offset_models.training.rows.samples import Sample

MOST_BYTES: Final = 1 << 30


class InitialStates:
    """o's last hidden states at answer positions, [n, hidden] a row, in host memory up to `most_bytes`.

    A row goes through o alone: its states must not depend on which rows it first came with, or a resumed run would
    not repeat a run that was not killed.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._left = most_bytes
        self._states: dict[bytes, Tensor] = {}

    def of(self, initial: PreTrainedModel, sample: Sample, settings: TrainingSettings) -> Tensor:
        """[n, hidden], on the model's device."""
        known = self._states.get(sample.digest)
        if known is not None:
            return known.to(initial.device)
        ids = torch.tensor([sample.ids], device=initial.device)
        first = len(sample.prompt_ids) - 1
        states = last_states(initial, ids, settings)[first : first + len(sample.answer_ids)]
        self._keep(sample.digest, states)
        return states

    def _keep(self, digest: bytes, states: Tensor) -> None:
        size = states.numel() * states.element_size()
        if size <= self._left:
            self._left -= size
            self._states[digest] = states.to("cpu", copy=True)  # the answer's part only, not the whole row's


def last_states(model: PreTrainedModel, ids: Tensor, settings: TrainingSettings) -> Tensor:
    """Last hidden states of ids [sequences, length]: [sequences · length, hidden]."""
    with torch.autocast(ids.device.type, torch.bfloat16, enabled=half(settings, ids.device)):
        states: Tensor = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
    return states.flatten(0, 1)


def half(settings: TrainingSettings, device: torch.device) -> bool:
    """Whether the models compute in bfloat16. Losses and the adapter stay in float32."""
    return settings.precision == "bfloat16" or (settings.precision == "auto" and device.type == "cuda")
