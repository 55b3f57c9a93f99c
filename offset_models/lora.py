"""Several LoRA adapters on one base: each segment of a packed batch runs with its own adapter, or with none.

y = W·x + scale·B·(A·x) on the segment's rows, scale = alpha/r (alpha/√r with rsLoRA); Hu et al., "LoRA", 2021.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Protocol

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


class Site(Protocol):
    """A place of the model where adapters act: one linear layer, or several that were joined."""

    segments: Sequence[Segment]

    @property
    def nbytes(self) -> int:
        """Memory of the updates installed here."""

    def put(self, adapter: int, name: str, update: LoraWeights, /) -> None:
        """Install an adapter's update of the linear layer `name`."""

    def drop(self, adapter: int, name: str, /) -> None:
        """Take it away again."""


class AdaptedLinear:
    """Forward hook of one linear layer: adds each segment's update to the layer's output, in place."""

    def __init__(self, linear: nn.Linear) -> None:
        self.linear = linear
        self.weights: dict[int, LoraWeights] = {}
        self.segments: Sequence[Segment] = ()
        self._handle: RemovableHandle | None = None

    @property
    def nbytes(self) -> int:
        return sum(w.a.nbytes + w.b.nbytes for w in self.weights.values())

    def put(self, adapter: int, _name: str, update: LoraWeights) -> None:
        self.weights[adapter] = _like(update, self.linear.weight)
        self._handle = self._handle or self.linear.register_forward_hook(self)

    def drop(self, adapter: int, _name: str) -> None:
        del self.weights[adapter]
        if not self.weights and self._handle is not None:  # plain again
            self._handle.remove()
            self._handle = None

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def __call__(self, _module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        for segment in self.segments:
            found = self.weights.get(segment.adapter)
            if found is not None:
                part = slice(segment.start, segment.stop)
                inner = nn.functional.linear(inputs[0][0, part], found.a)
                output[0, part].addmm_(inner, found.b.T, alpha=found.scale)


@dataclass(frozen=True, slots=True)
class JoinedUpdate:
    """The updates of the layers that make up a joined matrix, as one."""

    a: Tensor  # [in_features, Σ r]
    b: Tensor  # [Σ r, Σ out_features], scaled; zero where a layer has no part


class FusedLinear:
    """Several linear layers with one input as one matrix. Call: [T, in] -> [T, Σ out].

    It is stored as [in, Σ out]: with few rows that product is up to twice as fast (docs/experiments.md). The layers
    keep views of it.
    """

    def __init__(self, modules: Mapping[str, nn.Linear]) -> None:
        sizes = [module.out_features for module in modules.values()]
        starts = [sum(sizes[:i]) for i in range(len(sizes))]
        self.parts = {name: slice(start, start + n) for name, start, n in zip(modules, starts, sizes, strict=True)}
        self.weight = torch.cat([module.weight.t() for module in modules.values()], dim=1)  # [in, Σ out]
        self.bias = _joined_bias(list(modules.values()))
        self.segments: Sequence[Segment] = ()
        self._updates: dict[int, dict[str, LoraWeights]] = {}
        self._joined: dict[int, JoinedUpdate] = {}
        for name, module in modules.items():
            module.weight = nn.Parameter(self.weight[:, self.parts[name]].t(), requires_grad=False)

    @property
    def nbytes(self) -> int:
        return sum(w.a.nbytes + w.b.nbytes for w in self._joined.values())

    def __call__(self, rows: Tensor) -> Tensor:
        output = rows @ self.weight if self.bias is None else torch.addmm(self.bias, rows, self.weight)
        if self._joined:
            self._adapt(output, rows)
        return output

    def put(self, adapter: int, name: str, update: LoraWeights) -> None:
        self._updates.setdefault(adapter, {})[self._part(name)] = _like(update, self.weight)
        self._join(adapter)

    def drop(self, adapter: int, name: str) -> None:
        del self._updates[adapter][self._part(name)]
        self._join(adapter)

    def _adapt(self, output: Tensor, rows: Tensor) -> None:
        for segment in self.segments:
            found = self._joined.get(segment.adapter)
            if found is not None:
                part = slice(segment.start, segment.stop)
                output[part].addmm_(rows[part] @ found.a, found.b)

    def _part(self, name: str) -> str:
        return next(part for part in self.parts if name.endswith(part))

    def _join(self, adapter: int) -> None:
        """One update for the joined matrix: A's above each other, scaled B's where their outputs are."""
        updates = self._updates[adapter]
        if not updates:
            del self._updates[adapter], self._joined[adapter]
            return
        a = torch.cat([update.a.t() for update in updates.values()], dim=1)
        b = self.weight.new_zeros((a.shape[1], self.weight.shape[1]))
        row = 0
        for part, update in updates.items():
            b[row : row + update.b.shape[1], self.parts[part]] = update.b.t() * update.scale
            row += update.b.shape[1]
        self._joined[adapter] = JoinedUpdate(a.contiguous(), b)


def _joined_bias(modules: Sequence[nn.Linear]) -> Tensor | None:
    if all(module.bias is None for module in modules):
        return None
    weights = [module.weight for module in modules]
    biases = [module.bias for module in modules]
    return torch.cat([w.new_zeros(w.shape[0]) if b is None else b for w, b in zip(weights, biases, strict=True)])


def _like(update: LoraWeights, weight: Tensor) -> LoraWeights:
    return LoraWeights(update.a.to(weight), update.b.to(weight), update.scale)


class AdapterBank:
    """The adapters of one base model. Belongs to the thread that runs the model; add and remove between batches.

    `joined` names the layers that run as part of a joined matrix; the others are hooked when an adapter needs them.
    """

    def __init__(self, model: nn.Module, joined: Mapping[str, FusedLinear] | None = None) -> None:
        self.model = model
        self._sites: dict[str, Site] = dict(joined or {})
        self._members: dict[int, tuple[str, ...]] = {}
        self._ids = count()

    @property
    def nbytes(self) -> int:
        return sum(site.nbytes for site in self._distinct())

    def add(self, weights: AdapterWeights) -> int:
        """Install an adapter in the base's device and dtype; returns the number by which a batch names it."""
        adapter = next(self._ids)
        self._members[adapter] = tuple(weights)
        for name, update in weights.items():
            self._site(name).put(adapter, name, update)
        return adapter

    def remove(self, adapter: int) -> None:
        """Forget an adapter; layers that no adapter touches any more are plain again."""
        for name in self._members.pop(adapter):
            self._sites[name].drop(adapter, name)

    def route(self, lengths: Sequence[tuple[int | None, int]]) -> None:
        """The next forward's packed rows run as `lengths` says: (adapter or None, rows), in packed order."""
        segments = _segments(lengths)
        for segment in segments:
            if segment.adapter not in self._members:
                raise ValueError(f"No adapter {segment.adapter} is installed.")
        for site in self._distinct():
            site.segments = segments

    def _distinct(self) -> list[Site]:
        return list({id(site): site for site in self._sites.values()}.values())

    def _site(self, name: str) -> Site:
        if name not in self._sites:
            linear = self.model.get_submodule(name)
            if not isinstance(linear, nn.Linear):
                raise ValueError(f"{name} is not a linear layer.")
            self._sites[name] = AdaptedLinear(linear)
        return self._sites[name]


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
