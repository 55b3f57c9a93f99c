"""What a step tells the device: one row for every token, in tensors that stay where they are."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from deltaserve.offset_models.engine.forward.paged.pages import PagedKV

FIELDS: Final = 5


@dataclass(frozen=True, slots=True)
class Rows:
    """The tokens of a step, one row each. Those of one slot are in the order of their positions."""

    token_ids: Sequence[int]
    positions: Sequence[int]
    slots: Sequence[int]
    adapters: Sequence[int]  # -1: none

    def __len__(self) -> int:
        return len(self.token_ids)

    def part(self, start: int, stop: int) -> "Rows":
        return Rows(*(f[start:stop] for f in (self.token_ids, self.positions, self.slots, self.adapters)))


@dataclass(frozen=True, slots=True)
class RowTensors:
    """The same on the device, with what finds the rows' pages. Shapes [R], int64."""

    token_ids: Tensor
    positions: Tensor
    slots: Tensor
    adapters: Tensor
    kept: Tensor  # rows whose logits are wanted; 0 beyond their number
    tables: Tensor  # [slots + 1, pages of a slot] int64, `PagedKV.table`
    pages: PagedKV


class RowInputs:
    """Tensors for up to `rows` rows that every step fills by one copy, from pinned memory on a GPU.

    A pinned block is not given out again before the copies that read it have run: torch's allocator sees to that.
    """

    def __init__(self, pages: PagedKV, rows: int, device: torch.device) -> None:
        self.rows = rows
        self._pages = pages
        self._changes = 0  # of the pages' table when it was last copied
        self._pinned = device.type == "cuda"
        self._buffer = torch.zeros(FIELDS * rows + pages.table.size, dtype=torch.long, device=device)
        self._fields = self._buffer[: FIELDS * rows].view(FIELDS, rows)
        self._tables = self._buffer[FIELDS * rows :].view(pages.table.shape)
        self._fields[2] = pages.slots
        self._fields[3] = -1

    def first(self, rows: int) -> RowTensors:
        """Views of the first `rows` rows."""
        ids, positions, slots, adapters, kept = self._fields[:, :rows]
        return RowTensors(ids, positions, slots, adapters, kept, self._tables, self._pages)

    def load(self, rows: Rows, kept: Sequence[int] = ()) -> None:
        """Copy a step's rows, and the pages' table where that has changed; rows beyond them write to the scratch page.

        Does not wait for the device.
        """
        changed, n = self._changes != self._pages.changes, len(rows)
        size = len(self._buffer) if changed else self._fields.numel()
        host = torch.zeros(size, dtype=torch.long, pin_memory=self._pinned)
        array = host.numpy()
        fields = array[: self._fields.numel()].reshape(FIELDS, self.rows)
        fields[0, :n], fields[1, :n], fields[2, :n] = rows.token_ids, rows.positions, rows.slots
        fields[3, :n], fields[4, : len(kept)] = rows.adapters, kept
        fields[2, n:], fields[3, n:] = self._pages.slots, -1
        if changed:
            array[self._fields.numel() :] = self._pages.table.reshape(-1)
            self._changes = self._pages.changes
        self._buffer[:size].copy_(host, non_blocking=True)
