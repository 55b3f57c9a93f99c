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
    owners: Tensor  # [Σ r] int64, the adapter of each column of `a`; [1] where there is one adapter
    key: tuple[int, ...]  # the same on the host

    @classmethod
    def of(cls, updates: Mapping[int, JoinedUpdate]) -> "Stack":
        if len(updates) == 1:
            ((adapter, one),) = updates.items()
            return cls(one.a, one.b, torch.tensor([adapter], device=one.a.device), (adapter,))
        key = tuple(adapter for adapter, update in updates.items() for _ in range(update.a.shape[1]))
        a = torch.cat([update.a for update in updates.values()], dim=1)
        b = torch.cat([update.b for update in updates.values()])
        return cls(a, b, torch.tensor(key, device=a.device), key)


@dataclass(eq=False, slots=True)
class RowAdapters:
    """The adapter of each row as a tensor: rows in any order, and no shape or address that depends on who runs.

    So one captured graph serves every mixture of adapters. Its weights are those that were installed when it was run.
    """

    numbers: Tensor  # [R] int64, -1: none
    masks: dict[tuple[int, ...], Tensor] = field(default_factory=dict)  # true where a column is another's; by columns
    used: list[Stack] = field(default_factory=list)  # kept alive with the graph that reads them
    reads: int = 0

    def own(self, inner: Tensor, stack: Stack) -> Tensor:
        """`inner` [R, Σ r], zero where a column is not of the row's adapter. In place."""
        self.reads += 1
        self.used.append(stack)
        mask = self.masks.get(stack.key)
        if mask is None:
            mask = self.masks[stack.key] = self.numbers[:, None] != stack.owners
        return inner.masked_fill_(mask, 0.0)
