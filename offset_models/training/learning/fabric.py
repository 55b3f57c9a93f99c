"""Where training runs: one process, or several that share a batch through accelerate (`accelerate launch`)."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from deltaserve.errors import BadRequest
from deltaserve.offset_models.engine.devices.finding import AUTO, found_device


@dataclass(frozen=True, slots=True)
class Fabric:
    """One of `world` processes, each with its own device and its own share of every batch."""

    device: torch.device
    rank: int = 0
    world: int = 1
    accelerator: Any = None

    @classmethod
    def find(cls, device: str = AUTO) -> "Fabric":
        """What this process was started as. `auto`: the GPU where there is one. Raises BadRequest."""
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            return _accelerated()
        return cls(torch.device(found_device(device)))

    @property
    def main(self) -> bool:
        """Whether this process writes files and reports."""
        return self.rank == 0

    def average(self, parameters: Iterable[nn.Parameter]) -> None:
        """Gradients become their mean over the processes."""
        if self.accelerator is None:
            return
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad = self.accelerator.reduce(parameter.grad, reduction="mean")

    def mean(self, figures: dict[str, float]) -> dict[str, float]:
        """Each figure's mean over the processes."""
        if self.accelerator is None:
            return figures
        summed = self.accelerator.reduce(torch.tensor(list(figures.values()), device=self.device), reduction="mean")
        return dict(zip(figures, summed.tolist(), strict=True))

    def wait(self) -> None:
        """Until every process is here."""
        if self.accelerator is not None:
            self.accelerator.wait_for_everyone()


def _accelerated() -> Fabric:
    try:
        from accelerate import Accelerator
    except ImportError as error:
        raise BadRequest("Several processes need accelerate: pip install 'deltaserve[train]'.") from error
    accelerator = Accelerator()
    return Fabric(accelerator.device, accelerator.process_index, accelerator.num_processes, accelerator)
