"""A LoRA as tensors by layer, and the layers at a model's two ends."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class LoraWeights:
    """One linear layer's low-rank update."""

    a: Tensor  # [r, in_features]
    b: Tensor  # [out_features, r]
    scale: float


AdapterWeights = Mapping[str, LoraWeights]  # by the linear layer's name in the base model


def head_of(model: nn.Module) -> Any:
    """The layer that makes logits; None where the model names none."""
    find = getattr(model, "get_output_embeddings", None)
    return find() if find is not None else None


def embedding_of(model: nn.Module) -> Any:
    """The table of the tokens' vectors; None where the model names none."""
    find = getattr(model, "get_input_embeddings", None)
    return find() if find is not None else None
