"""o's hidden states along training rows, computed once: o never changes, and rows come again in every epoch."""

from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import MoeModelOutputWithPast

from deltaserve.offset_models.training.learning.passes.precision import half
from deltaserve.offset_models.training.learning.passes.reading import Reading
from deltaserve.offset_models.training.learning.passes.tail import Imputed
from deltaserve.offset_models.training.learning.settings import TrainingSettings
from deltaserve.offset_models.training.rows.samples import Sample
from deltaserve.offset_models.training.rows.scored import Scored

MOST_BYTES: Final = 1 << 30


class InitialStates:
    """o's last hidden states at answer positions, [n, hidden] a row, where the model is, up to `most_bytes`.

    A row that was not prepared goes through o alone: its states must not depend on which rows it first came with, or a
    resumed run would not repeat a run that was not killed.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._left = most_bytes
        self._states: dict[bytes, Tensor] = {}
        self._lists: dict[bytes, Imputed] = {}

    def known(self, sample: Sample) -> bool:
        return sample.digest in self._states

    def keep(self, sample: Sample, states: Tensor, lists: Imputed) -> None:
        """Of a row that was prepared; one that is known stays as it is."""
        if not self.known(sample):
            self._keep(sample.digest, states)
            if self.known(sample):
                self._lists[sample.digest] = lists

    def lists(self, samples: Sequence[Sample]) -> Imputed | None:
        """What the black box's lists along these rows say; None where one was not prepared."""
        found = [self._lists.get(sample.digest) for sample in samples]
        known = [lists for lists in found if lists is not None]
        return Imputed.joined(known) if len(known) == len(found) else None

    def of(self, initial: PreTrainedModel, row: Scored, reading: Reading, settings: TrainingSettings) -> Tensor:
        """[m, hidden] at the places that are read, on the model's device."""
        sample, _ = row
        known = self._states.get(sample.digest)
        if known is not None:
            return known
        ids, places = torch.tensor([reading.ids(row)], device=initial.device), reading.places(row)
        states = last_states(initial, ids, settings)[places.start : places.stop]
        self._keep(sample.digest, states)
        return states

    def _keep(self, digest: bytes, states: Tensor) -> None:
        size = states.numel() * states.element_size()
        if size <= self._left:
            self._left -= size
            self._states[digest] = states.clone()  # the answer's part only, not the whole row's


def last_states(model: PreTrainedModel, ids: Tensor, settings: TrainingSettings) -> Tensor:
    """Last hidden states of ids [sequences, length]: [sequences · length, hidden]."""
    with _computing(model, settings):
        states: Tensor = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
    return states.flatten(0, 1)


def logits_of(model: PreTrainedModel, states: Tensor, settings: TrainingSettings) -> Tensor:
    """Logits [n, V], in what the model computes in, from last hidden states [n, hidden].

    The model's own forward computes them, with the states in place of its body, so that what a model does behind its
    head (Gemma's soft cap, Granite's and Cohere's scale) happens in training as it does in serving.
    """
    name, body = model.base_model_prefix, model.base_model
    no_token = torch.zeros((1, len(states)), dtype=torch.long, device=states.device)
    setattr(model, name, _GivenStates(body, states))
    try:
        with _computing(model, settings):
            logits: Tensor = model(input_ids=no_token, use_cache=False).logits
    finally:
        setattr(model, name, body)
    return logits[0]


class _GivenStates(nn.Module):
    """Stands for a model's body: its forward gives these states; other attributes are the body's."""

    def __init__(self, body: nn.Module, states: Tensor) -> None:
        super().__init__()
        self.__dict__ |= {"_body": body, "_states": states}  # not as a part: nothing of the body is to be registered

    def forward(self, *_: object, **__: object) -> MoeModelOutputWithPast:
        return MoeModelOutputWithPast(last_hidden_state=self._states[None])

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_body"], name)


def _computing(model: PreTrainedModel, settings: TrainingSettings) -> torch.autocast:
    """In bfloat16 where that is to be; a model that is in it has no need of being told."""
    halved = half(settings, model.device) and model.dtype != torch.bfloat16
    return torch.autocast(model.device.type, torch.bfloat16, enabled=halved)
