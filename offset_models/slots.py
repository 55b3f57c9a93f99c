"""Preallocated key/value storage: one slot per running sequence, every layer in one tensor pair."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Layer:
    keys: Tensor  # [slots, kv_heads, max_len, head_dim]
    values: Tensor  # same shape


class KVSlots:
    """Keys and values of `slots` sequences of up to `max_len` tokens.

    Bytes: slots · max_len · Σ_layers 2 · kv_heads · head_dim · bytes per element (`nbytes`), reserved when a layer is
    first written. They are zero pages until used, so on a CPU only positions that were really written are resident.
    Rewinding is free: a sequence's length lives with its owner, and later writes overwrite what was there.
    """

    def __init__(self, slots: int, max_len: int) -> None:
        self.slots = slots
        self.max_len = max_len
        self.layers: dict[int, Layer] = {}

    @property
    def nbytes(self) -> int:
        return sum(2 * layer.keys.nbytes for layer in self.layers.values())

    def layer(self, index: int, like: Tensor) -> Layer:
        """The storage of one layer, made on first use for keys like `like` [1, kv_heads, n, head_dim]."""
        found = self.layers.get(index)
        if found is None:
            shape = (self.slots, like.shape[1], self.max_len, like.shape[3])
            found = Layer(like.new_zeros(shape), like.new_zeros(shape))
            self.layers[index] = found
        return found

    @torch.inference_mode()
    def copy(self, source: int, target: int, start: int, stop: int) -> None:
        """Copy positions start..stop-1 from one slot to another."""
        for layer in self.layers.values():
            for stored in (layer.keys, layer.values):
                stored[target, :, start:stop].copy_(stored[source, :, start:stop])

    @torch.inference_mode()
    def clear(self, slots: Sequence[int]) -> None:
        """Zero whole slots: a masked NaN would still poison a neighbour's weighted sum (0 · NaN)."""
        for layer in self.layers.values():
            for stored in (layer.keys, layer.values):
                stored[list(slots)] = 0
