"""Several LoRA adapters on one base: each segment of a packed batch runs with its own adapter, or with none.

y = W·x + scale·B·(A·x) on the segment's rows, scale = alpha/r (alpha/√r with rsLoRA); Hu et al., "LoRA", 2021.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from deltaserve.offset_models.checkpoints.lora_weights import AdapterWeights, LoraWeights, head_of
from deltaserve.offset_models.engine.forward.stacked import JoinedUpdate, RowAdapters, Stack


@dataclass(frozen=True, slots=True)
class Segment:
    """Rows start..stop-1 of the packed batch run with `adapter`."""

    adapter: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Routing:
    """Which rows of a layer's input run with which adapter; the others run with none."""

    segments: Sequence[Segment] = ()
    rows: int = 0  # of the input, all together
    by_row: RowAdapters | None = None  # instead of segments


class Site(Protocol):
    """A place of the model where adapters act: one linear layer, or several that were joined."""

    routing: Routing

    @property
    def nbytes(self) -> int:
        """Memory of the updates installed here."""

    def put(self, adapter: int, updates: AdapterWeights, /) -> None:
        """Install all that an adapter has for this place, by the linear layers' names."""

    def drop(self, adapter: int, /) -> None:
        """Take it away again."""


class AdaptedLinear:
    """Forward hook of one linear layer: adds each segment's update to the layer's output, in place."""

    def __init__(self, name: str, linear: nn.Linear) -> None:
        self.name = name
        self.linear = linear
        self.weights: dict[int, LoraWeights] = {}
        self.routing = Routing()
        self._handle: RemovableHandle | None = None

    @property
    def nbytes(self) -> int:
        return sum(w.a.nbytes + w.b.nbytes for w in self.weights.values())

    def put(self, adapter: int, updates: AdapterWeights) -> None:
        self.weights[adapter] = _like(updates[self.name], self.linear.weight)
        self._handle = self._handle or self.linear.register_forward_hook(self)

    def drop(self, adapter: int) -> None:
        del self.weights[adapter]
        if not self.weights and self._handle is not None:  # plain again
            self._handle.remove()
            self._handle = None

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def __call__(self, _module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        rows, updated = inputs[0].reshape(-1, inputs[0].shape[-1]), output.view(-1, output.shape[-1])
        if rows.shape[0] != self.routing.rows:  # a router's choice, say: whose rows these are, nobody knows here
            raise ValueError(f"{self.name} met {rows.shape[0]} rows where {self.routing.rows} were to come.")
        for segment in self.routing.segments:
            update = self.weights.get(segment.adapter)
            if update is not None:
                part = slice(segment.start, segment.stop)
                inner = nn.functional.linear(rows[part], update.a)
                updated[part].addmm_(inner, update.b.T, alpha=update.scale)


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
        self.routing = Routing()
        self._joined: dict[int, JoinedUpdate] = {}
        self._stack: Stack | None = None  # of `_joined`, made when rows first ask for it
        for name, module in modules.items():
            module.weight = nn.Parameter(self.weight[:, self.parts[name]].t(), requires_grad=False)

    @property
    def nbytes(self) -> int:
        return sum(w.a.nbytes + w.b.nbytes for w in self._joined.values())

    def __call__(self, rows: Tensor, out: Tensor | None = None, add: Tensor | None = None) -> Tensor:
        """The product, in `out` [T, Σ out] where that is given; with `add` [T, Σ out] added to it."""
        at_once = self.bias
        if at_once is None and rows.device.type != "cpu":  # one kernel less; on a CPU nothing is won
            at_once = add
        if at_once is None:
            output = torch.mm(rows, self.weight, out=out)
        else:
            output = torch.addmm(at_once, rows, self.weight, out=out)
        if add is not None and at_once is not add:
            output += add
        if self._joined:
            self._adapt(output, rows)
        return output

    def put(self, adapter: int, updates: AdapterWeights) -> None:
        like = {self._part(name): _like(update, self.weight) for name, update in updates.items()}
        self._joined[adapter] = self._join(like)
        self._stack = None

    def drop(self, adapter: int) -> None:
        del self._joined[adapter]
        self._stack = None

    def _adapt(self, output: Tensor, rows: Tensor) -> None:
        by_row = self.routing.by_row
        if by_row is not None:
            self._stack = stack = self._stack or Stack.of(self._joined)
            by_row.add(output, rows, stack)
        for segment in self.routing.segments:
            update = self._joined.get(segment.adapter)
            if update is not None:
                part = slice(segment.start, segment.stop)
                output[part].addmm_(rows[part] @ update.a, update.b)

    def _part(self, name: str) -> str:
        return next(part for part in self.parts if name.endswith(part))

    def _join(self, updates: AdapterWeights) -> JoinedUpdate:
        """One update for the joined matrix: A's above each other, scaled B's where their outputs are."""
        a = torch.cat([update.a.t() for update in updates.values()], dim=1)
        b = self.weight.new_zeros((a.shape[1], self.weight.shape[1]))
        row = 0
        for part, update in updates.items():
            b[row : row + update.b.shape[1], self.parts[part]] = update.b.t() * update.scale
            row += update.b.shape[1]
        return JoinedUpdate(a.contiguous(), b)


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
    The head (`lm_head`) runs on the rows whose logits are wanted, every other layer on all rows.
    """

    def __init__(self, model: nn.Module, joined: Mapping[str, FusedLinear] | None = None) -> None:
        self.model = model
        self._sites: dict[str, Site] = dict(joined or {})
        self._body: list[Site] | None = None  # every site but the head, each once; None: to be listed anew
        self._head = _head_name(model)
        self._members: dict[int, tuple[str, ...]] = {}
        self._ids = count()
        self.adapts_head = False  # whether any adapter does

    @property
    def nbytes(self) -> int:
        return sum(site.nbytes for site in _distinct(self._sites.values()))

    def add(self, weights: AdapterWeights) -> int:
        """Install an adapter in the base's device and dtype; returns the number by which a batch names it.

        Raises ValueError for a layer that is not linear; then nothing of the adapter stays.
        """
        adapter = next(self._ids)
        there: dict[int, tuple[Site, dict[str, LoraWeights]]] = {}  # by the site's identity
        for name, update in weights.items():
            site = self._site(name)
            there.setdefault(id(site), (site, {}))[1][name] = update
        done: list[Site] = []
        try:
            for site, updates in there.values():
                site.put(adapter, updates)
                done.append(site)
        except BaseException:  # short of memory, say
            for site in done:
                site.drop(adapter)
            raise
        self._members[adapter] = tuple(weights)
        self._look_at_head()
        return adapter

    def remove(self, adapter: int) -> None:
        """Forget an adapter; layers that no adapter touches any more are plain again."""
        for site in _distinct(self._sites[name] for name in self._members.pop(adapter)):
            site.drop(adapter)
        self._look_at_head()

    def route(
        self,
        lengths: Sequence[tuple[int | None, int]],
        kept: Sequence[tuple[int | None, int]] = (),
        *,
        watched: bool = False,
    ) -> None:
        """The next forward's packed rows run as `lengths` says: (adapter or None, rows), in packed order.

        `kept`: the same for the rows of the logits, in theirs; needed where `adapts_head`. `watched`: `idle` can be
        asked after the forward.
        """
        body, head = _routing(lengths), _routing(kept)
        self.require({segment.adapter for segment in body.segments})
        for site in self._all_but_the_head():
            site.routing = _watched(body) if watched else body
        if self._head in self._sites:
            self._sites[self._head].routing = _watched(head) if watched else head

    def route_rows(self, numbers: Tensor, kind: type[RowAdapters] = RowAdapters) -> list[RowAdapters]:
        """The next forward's rows, those of the logits too, run with the adapters `numbers` [R] (-1: none).

        `idle` can be asked after it. The result is to be kept for as long as a graph of that forward is replayed.
        """
        routes = []
        for site in _distinct(self._sites.values()):
            routes.append(kind(numbers))
            site.routing = Routing(by_row=routes[-1])
        return routes

    def require(self, adapters: Iterable[int]) -> None:
        """Raises ValueError for an adapter that is not installed."""
        for adapter in adapters:
            if adapter not in self._members:
                raise ValueError(f"No adapter {adapter} is installed.")

    @property
    def installed(self) -> frozenset[int]:
        """The numbers of the adapters; a number is never given twice."""
        return frozenset(self._members)

    def idle(self, adapter: int) -> list[str]:
        """The layers of an adapter that the last, watched forward did not ask for their updates."""
        return [name for name in self._members[adapter] if not _was_read(self._sites[name].routing)]

    def _all_but_the_head(self) -> list[Site]:
        if self._body is None:
            self._body = _distinct(site for name, site in self._sites.items() if name != self._head)
        return self._body

    def _site(self, name: str) -> Site:
        if name not in self._sites:
            linear = self.model.get_submodule(name)
            if not isinstance(linear, nn.Linear):
                raise ValueError(f"{name} is not a linear layer.")
            self._sites[name] = AdaptedLinear(name, linear)
            self._body = None
        return self._sites[name]

    def _look_at_head(self) -> None:
        self.adapts_head = any(self._head in names for names in self._members.values())


def _distinct(sites: Iterable[Site]) -> list[Site]:
    return list({id(site): site for site in sites}.values())


class _Segments(tuple[Segment, ...]):
    """Segments that count how often they are gone through."""

    reads = 0

    def __iter__(self) -> Iterator[Segment]:
        self.reads += 1
        return super().__iter__()


def _watched(routing: Routing) -> Routing:
    return Routing(_Segments(routing.segments), routing.rows)


def _was_read(routing: Routing) -> bool:
    if routing.by_row is not None:
        return routing.by_row.reads > 0
    return isinstance(routing.segments, _Segments) and routing.segments.reads > 0


def _head_name(model: nn.Module) -> str | None:
    head = head_of(model)
    return next((name for name, module in model.named_modules() if module is head), None)


def _routing(lengths: Sequence[tuple[int | None, int]]) -> Routing:
    """Merge neighbours with the same adapter; base rows need no segment."""
    merged: list[Segment] = []
    row = 0
    for adapter, n in lengths:
        if adapter is not None and n:
            start = row
            if merged and merged[-1].adapter == adapter and merged[-1].stop == row:
                start = merged.pop().start
            merged.append(Segment(adapter, start, row + n))
        row += n
    return Routing(merged, row)
