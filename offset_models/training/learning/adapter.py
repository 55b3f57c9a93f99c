"""A trainable LoRA on a frozen model, saved as peft saves it (Hu et al., "LoRA", 2021): y = W·x + (alpha/r)·B·A·x."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from deltaserve.errors import BadRequest
from deltaserve.offset_models.training.learning.settings import LINEAR_LAYERS


class LoraLayer(nn.Module):
    """The update of one linear layer; zero until B is trained."""

    def __init__(self, linear: nn.Linear, rank: int, scale: float, generator: torch.Generator) -> None:
        super().__init__()
        bound = 1 / math.sqrt(linear.in_features)
        self.a = nn.Parameter(torch.empty(rank, linear.in_features).uniform_(-bound, bound, generator=generator))
        self.b = nn.Parameter(torch.zeros(linear.out_features, rank))
        self._scale = scale
        self.enabled = True
        self.ran = False  # ever
        linear.register_forward_hook(self._add)

    def _add(self, _linear: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor | None:
        self.ran = True
        if not self.enabled:
            return None
        states: Tensor = inputs[0].flatten(0, -2)  # in the base's own number format, which the float32 adapter follows
        narrow, wide = states @ self.a.T.to(states.dtype), (self._scale * self.b.T).to(states.dtype)
        return torch.addmm(output.flatten(0, -2), narrow, wide).view_as(output)  # one pass over what is wide


class TrainableLora(nn.Module):
    """Adapters on every layer of `model` whose last name is among `targets`. The model itself is frozen.

    Raises BadRequest naming a target that is no linear layer of the model: nothing is left out silently.
    """

    _model: nn.Module

    def __init__(
        self, model: nn.Module, rank: int, alpha: float, seed: int, targets: tuple[str, ...] = LINEAR_LAYERS
    ) -> None:
        super().__init__()
        self.__dict__["_model"] = model.requires_grad_(False)  # not a part of this module: its weights are not ours
        generator = torch.Generator().manual_seed(seed)
        self._rank, self._alpha, self._targets = rank, alpha, targets
        self._layers = {
            name: LoraLayer(linear, rank, alpha / rank, generator)
            for name, linear in model.named_modules()
            if name.rpartition(".")[2] in targets and isinstance(linear, nn.Linear)
        }
        _refuse_missing(model, set(targets) - {name.rpartition(".")[2] for name in self._layers})
        self._registered = nn.ModuleList(self._layers.values())

    @property
    def idle(self) -> list[str]:
        """Layers that no forward has run yet."""
        return [name for name, layer in self._layers.items() if not layer.ran]

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """The plain model, for the time being."""
        self._enable(False)
        try:
            yield
        finally:
            self._enable(True)

    @torch.no_grad()
    def merge(self) -> None:
        """Add the update to the model's own weights and switch the adapter off."""
        for name, layer in self._layers.items():
            self._model.get_submodule(name).weight += self._alpha / self._rank * layer.b @ layer.a  # type: ignore[operator]
        self._enable(False)

    def save(self, folder: Path, base_name: str) -> None:
        """adapter_config.json and adapter_model.safetensors, in peft's names."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {}
        for name, layer in self._layers.items():
            tensors[f"base_model.model.{name}.lora_A.weight"] = layer.a.detach().contiguous()
            tensors[f"base_model.model.{name}.lora_B.weight"] = layer.b.detach().contiguous()
        save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
        (folder / "adapter_model.safetensors").chmod(0o644)  # whoever serves it need not be who trained it
        (folder / "adapter_config.json").write_bytes(orjson.dumps(self._config(base_name), option=orjson.OPT_INDENT_2))

    def _enable(self, enabled: bool) -> None:
        for layer in self._layers.values():
            layer.enabled = enabled

    def _config(self, base_name: str) -> dict[str, Any]:
        return {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": base_name,
            "r": self._rank,
            "lora_alpha": self._alpha,
            "lora_dropout": 0.0,
            "bias": "none",
            "fan_in_fan_out": False,
            "use_rslora": False,
            "use_dora": False,
            "modules_to_save": None,
            "target_modules": list(self._targets),
            "inference_mode": True,
        }


def _refuse_missing(model: nn.Module, missing: set[str]) -> None:
    if missing:
        named = dict.fromkeys(
            name.rpartition(".")[2] for name, layer in model.named_modules() if isinstance(layer, nn.Linear)
        )
        raise BadRequest(
            f"The model has no linear layer named {', '.join(sorted(missing))}: name its own by --target. "
            f"It has {', '.join(named) or 'none'}."
        )
