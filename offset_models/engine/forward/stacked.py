"""All adapters of a joined matrix next to each other, and which of their columns a row takes.

With it, rows of any mixture of adapters run in any order, and no shape or address depends on who runs: one captured
graph serves them all. The price is Σ r columns more for every row, which few adapters do not notice.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class JoinedUpdate:
    """The updates of the layers that make up a joined matrix, as one."""

    a: Tensor  # [in_features, Σ r]
    b: Tensor  # [Σ r, Σ out_features], scaled; zero where a layer has no part


@dataclass(frozen=True, slots=True)
class Stack:
    """The updates of all adapters of a joined matrix next to each other."""

    a: Tensor  # [in_features, Σ r]
    b: Tensor  # [Σ r, Σ out_features]
    owners: Tensor  # [Σ r] int64, the adapter of each column of `a`
    key: tuple[int, ...]  # the same on the host

    @classmethod
    def of(cls, updates: Mapping[int, JoinedUpdate]) -> "Stack":
        key = tuple(adapter for adapter, update in updates.items() for _ in range(update.a.shape[1]))
        a, *others = [update.a for update in updates.values()]
        b = next(iter(updates.values())).b
        if others:
            a, b = torch.cat([a, *others], dim=1), torch.cat([update.b for update in updates.values()])
        return cls(a, b, torch.tensor(key, device=a.device), key)


@dataclass(eq=False, slots=True)
class RowAdapters:
    """The adapter of each row as a tensor. Its weights are those that were installed when the rows were run."""

    numbers: Tensor  # [R] int64, -1: none
    used: list[Stack] = field(default_factory=list)  # kept alive with the graph that reads them
    reads: int = 0

    def add(self, output: Tensor, rows: Tensor, stack: Stack) -> None:
        """To `output` [R, Σ out] what each row's adapter makes of it; a row without one stays as it is."""
        self.reads += 1
        self.used.append(stack)
        self.add_own(output, rows @ stack.a, stack)

    def add_own(self, output: Tensor, inner: Tensor, stack: Stack) -> None:
        """The same from `inner` [R, Σ r], of which a row's own columns count."""
        foreign = self.numbers[:, None] != stack.owners
        output.addmm_(inner.masked_fill_(foreign, 0.0), stack.b)
