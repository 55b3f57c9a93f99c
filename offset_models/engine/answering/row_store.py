"""Rows that wait on the device for their position's decision, in one pair of tensors: a batch goes in by one copy."""

import math
from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from deltaserve.offset_models.engine.upload import upload

_LEAST = 8  # rows
WIDTH_OF: Final = 1024  # widths are multiples of it, so that reductions over a row can be cut into equal parts


class RowStore:
    """Rows of one width, which is made up with ids that no tokenizer has. Belongs to the engine's thread."""

    def __init__(self, width: int, device: torch.device) -> None:
        padded = -(-width // WIDTH_OF) * WIDTH_OF
        self._base = torch.empty((0, padded), device=device)
        self._offset = torch.empty((0, padded), device=device)
        self._free: list[int] = []

    @property
    def nbytes(self) -> int:
        return self._base.nbytes + self._offset.nbytes

    @property
    def held(self) -> int:
        """Rows that are kept now."""
        return len(self._base) - len(self._free)

    def put(self, base: Tensor, offset: Tensor) -> list[int]:
        """Keep rows [R, W] float32; returns their places, which are numbers."""
        if len(self._free) < len(base):
            self._grow(len(base))
        places = [self._free.pop() for _ in range(len(base))]
        at = upload(places, base.device)
        self._base[:, : base.shape[1]].index_copy_(0, at, base)
        self._offset[:, : base.shape[1]].index_copy_(0, at, offset)
        return places

    def take(self, places: Sequence[int]) -> tuple[Tensor, Tensor]:
        """The rows at these places, [R, W] each; they stay kept."""
        at = upload(places, self._base.device)
        return self._base.index_select(0, at), self._offset.index_select(0, at)

    def drop(self, place: int) -> None:
        self._free.append(place)

    def _grow(self, needed: int) -> None:
        held = len(self._base)
        more = max(held, needed, _LEAST)
        self._base, self._offset = (
            torch.cat((rows, rows.new_full((more, rows.shape[1]), unknown)))
            for rows, unknown in ((self._base, -math.inf), (self._offset, 0.0))
        )
        self._free.extend(range(held, held + more))
