"""Several LoRA adapters on one base: each segment of a packed batch runs with its own adapter, or with none.

y = W·x + scale·B·(A·x) on the segment's rows, scale = alpha/r (alpha/√r with rsLoRA); Hu et al., "LoRA", 2021.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle


@dataclass(frozen=True, slots=True)
class LoraWeights:
    """One linear layer's low-rank update."""

    a: Tensor  # [r, in_features]
    b: Tensor  # [out_features, r]
    scale: float


AdapterWeights = Mapping[str, LoraWeights]  # by the linear layer's name in the base model


@dataclass(frozen=True, slots=True)
class Segment:
    """Rows start..stop-1 of the packed batch run with `adapter`."""

    adapter: int
    start: int
    stop: int


class AdaptedLinear:
    """Forward hook of one linear layer: adds each segment's update to the layer's output, in place."""

    def __init__(self, linear: nn.Linear) -> None:
        self.linear = linear
        self.weights: dict[int, LoraWeights] = {}
        self.segments: Sequence[Segment] = ()
        self.handle: RemovableHandle = linear.register_forward_hook(self)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def __call__(self, _module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        for segment in self.segments:
            found = self.weights.get(segment.adapter)
            if found is not None:
                rows = slice(segment.start, segment.stop)
                inner = nn.functional.linear(inputs[0][0, rows], found.a)
                output[0, rows].addmm_(inner, found.b.T, alpha=found.scale)


class AdapterBank:
    """The adapters of one base model. Belongs to the thread that runs the model; add and remove between batches."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._linears: dict[str, AdaptedLinear] = {}
        self._members: dict[int, tuple[str, ...]] = {}
        self._ids = count()

    @property
    def nbytes(self) -> int:
        return sum(w.a.nbytes + w.b.nbytes for linear in self._linears.values() for w in linear.weights.values())

    def add(self, weights: AdapterWeights) -> int:
        """Install an adapter in the base's device and dtype; returns the number by which a batch names it."""
        adapter = next(self._ids)
        self._members[adapter] = tuple(weights)
        for name, update in weights.items():
            adapted = self._adapted(name)
            like = adapted.linear.weight
            adapted.weights[adapter] = LoraWeights(update.a.to(like), update.b.to(like), update.scale)
        return adapter

    def remove(self, adapter: int) -> None:
        """Forget an adapter; layers that no adapter touches any more are plain again."""
        for name in self._members.pop(adapter):
            adapted = self._linears[name]
            del adapted.weights[adapter]
            if not adapted.weights:
                adapted.handle.remove()
                del self._linears[name]

    def route(self, lengths: Sequence[tuple[int | None, int]]) -> None:
        """The next forward's packed rows run as `lengths` says: (adapter or None, rows), in packed order."""
        segments = _segments(lengths)
        for segment in segments:
            if segment.adapter not in self._members:
                raise ValueError(f"No adapter {segment.adapter} is installed.")
        for adapted in self._linears.values():
            adapted.segments = segments

    def _adapted(self, name: str) -> AdaptedLinear:
        if name not in self._linears:
            linear = self.model.get_submodule(name)
            if not isinstance(linear, nn.Linear):
                raise ValueError(f"{name} is not a linear layer.")
            self._linears[name] = AdaptedLinear(linear)
        return self._linears[name]


def _segments(lengths: Sequence[tuple[int | None, int]]) -> list[Segment]:
    """Merge neighbours with the same adapter; base rows need no segment."""
    merged: list[Segment] = []
    row = 0
    for adapter, n in lengths:
        if adapter is not None:
            start = row
            if merged and merged[-1].adapter == adapter and merged[-1].stop == row:
                start = merged.pop().start
            merged.append(Segment(adapter, start, row + n))
        row += n
    return merged
