"""Rows that wait on the device for their position's decision, in one pair of tensors: a batch goes in by one copy."""

from collections.abc import Sequence

import torch
from torch import Tensor

_LEAST = 8  # rows


class RowStore:
    """Rows of one width. Belongs to the engine's thread; places are numbers."""

    def __init__(self, width: int, device: torch.device) -> None:
        self._base = torch.empty((0, width), device=device)
        self._offset = torch.empty((0, width), device=device)
        self._free: list[int] = []

    @property
    def nbytes(self) -> int:
        return self._base.nbytes + self._offset.nbytes

    @property
    def held(self) -> int:
        """Rows that are kept now."""
        return len(self._base) - len(self._free)

    def put(self, base: Tensor, offset: Tensor) -> list[int]:
        """Keep rows [R, W] float32; returns their places."""
        if len(self._free) < len(base):
            self._grow(len(base))
        places = [self._free.pop() for _ in range(len(base))]
        at = torch.tensor(places, device=base.device)
        self._base.index_copy_(0, at, base)
        self._offset.index_copy_(0, at, offset)
        return places

    def take(self, places: Sequence[int]) -> tuple[Tensor, Tensor]:
        """The rows at these places, [R, W] each; they stay kept."""
        at = torch.tensor(places, device=self._base.device)
        return self._base.index_select(0, at), self._offset.index_select(0, at)

    def drop(self, place: int) -> None:
        self._free.append(place)

    def _grow(self, needed: int) -> None:
        held = len(self._base)
        more = max(held, needed, _LEAST)
        self._base, self._offset = (
            torch.cat((rows, rows.new_empty((more, rows.shape[1])))) for rows in (self._base, self._offset)
        )
        self._free.extend(range(held, held + more))
