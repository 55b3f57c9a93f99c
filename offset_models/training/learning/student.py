"""u beside o: a LoRA on a shared base, or a whole copy of it."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from deltaserve.errors import BadRequest
from deltaserve.offset_models.training.learning.adapter import TrainableLora
from deltaserve.offset_models.training.learning.passes.reading import OwnTokens, Reading
from deltaserve.offset_models.training.learning.settings import TrainingSettings


class Student(Protocol):
    """The pair in training. o is frozen."""

    unlearned: PreTrainedModel
    reading: Reading

    def initial(self) -> AbstractContextManager[PreTrainedModel]:
        """o, as long as the block lasts."""

    def named(self) -> dict[str, nn.Parameter]:
        """What is trained, by name."""

    def save(self, folder: Path, base_name: str) -> None:
        """u for serving: peft's two files, or a model folder."""


class LoraStudent:
    """u = o + adapter, in one set of weights. Raises BadRequest for a target that the model does not run."""

    def __init__(self, base: PreTrainedModel, settings: TrainingSettings, reading: Reading) -> None:
        self.unlearned, self.reading = base, reading
        self.lora = TrainableLora(base, settings.rank, settings.alpha, settings.seed, settings.targets)
        self.lora.to(base.device)
        with torch.no_grad():
            base(input_ids=torch.zeros((1, 1), dtype=torch.long, device=base.device), use_cache=False)
        if self.lora.idle:
            raise BadRequest(
                f"The model does not run {self.lora.idle[0]} as a layer of its own, so an adapter on it would do "
                "nothing: leave it out of --target."
            )

    @contextmanager
    def initial(self) -> Iterator[PreTrainedModel]:
        with self.lora.disabled():
            yield self.unlearned

    def named(self) -> dict[str, nn.Parameter]:
        return dict(self.lora.named_parameters())

    def save(self, folder: Path, base_name: str) -> None:
        self.lora.save(folder, base_name)


class FullStudent:
    """u is a copy of o in float32; the copy is trained."""

    def __init__(self, base: PreTrainedModel, reading: Reading) -> None:
        self._base, self.reading = base.requires_grad_(False), reading
        self.unlearned: PreTrainedModel = deepcopy(base).requires_grad_(True)
        nn.Module.to(self.unlearned, torch.float32)

    def initial(self) -> AbstractContextManager[PreTrainedModel]:
        return nullcontext(self._base)

    def named(self) -> dict[str, nn.Parameter]:
        return dict(self.unlearned.named_parameters())  # a tied matrix counts once

    def save(self, folder: Path, base_name: str) -> None:  # noqa: ARG002  (a LoRA needs it)
        self.unlearned.save_pretrained(folder)


def new_student(base: PreTrainedModel, settings: TrainingSettings, reading: Reading | None = None) -> Student:
    """u = o, ready to be trained. Turns gradient checkpointing on or off in the trained model.

    `reading`: how the pair reads the rows; None: they are in its own tokens.
    """
    reading = reading or OwnTokens()
    student: Student = FullStudent(base, reading) if settings.full else LoraStudent(base, settings, reading)
    base.train(False)
    if settings.checkpointing:
        _checkpoint(student.unlearned)
        student.unlearned.train(True)  # transformers checkpoints in training mode only
        _without_dropout(student.unlearned)
    return student


def tensors(student: Student) -> dict[str, Tensor]:
    """The trained weights, on the CPU."""
    return {name: parameter.detach().cpu().contiguous() for name, parameter in student.named().items()}


@torch.no_grad()
def restore(student: Student, saved: Mapping[str, Tensor]) -> None:
    """Put the trained weights back. Raises KeyError for one that is missing."""
    for name, parameter in student.named().items():
        parameter.copy_(saved[name])


def _checkpoint(model: PreTrainedModel) -> None:
    """Newer transformers call it by another name; both take torch's arguments first."""
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})


def _without_dropout(model: PreTrainedModel) -> None:
    """A loss on log q must not depend on luck, and step 0 is the black box itself."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(getattr(module, "attention_dropout", None), float):
            setattr(module, "attention_dropout", 0.0)  # noqa: B010  (Module's own attributes are typed otherwise)
