"""Preallocated key/value storage: one slot per running sequence, every layer in one tensor pair."""

import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Layer:
    """Keys and values of one layer, those of a position next to each other: a prefix is one run of memory."""

    states: Tensor  # [slots, max_len, 2, kv_heads, head_dim]

    @property
    def keys(self) -> Tensor:
        """[slots, max_len, kv_heads, head_dim], a view."""
        return self.states[:, :, 0]

    @property
    def values(self) -> Tensor:
        """As `keys`."""
        return self.states[:, :, 1]

    def write(self, places: Tensor, keys: Tensor, values: Tensor) -> None:
        """Store keys and values [n, kv_heads, head_dim] at `places` [n] = slot · max_len + position."""
        flat = self.states.flatten(0, 1)
        flat[:, 0].index_copy_(0, places, keys)
        flat[:, 1].index_copy_(0, places, values)


class KVSlots:
    """Keys and values of `slots` sequences of up to `max_len` tokens.

    Bytes: slots · max_len · Σ_layers 2 · kv_heads · head_dim · bytes per element (`nbytes`), reserved when a layer is
    first written. On a CPU only positions that were really written are resident (`_zeros`).
    Rewinding is free: a sequence's length lives with its owner, and later writes overwrite what was there.
    """

    def __init__(self, slots: int, max_len: int) -> None:
        self.slots = slots
        self.max_len = max_len
        self.layers: dict[int, Layer] = {}

    @property
    def nbytes(self) -> int:
        return sum(layer.states.nbytes for layer in self.layers.values())

    def layer(self, index: int, like: Tensor) -> Layer:
        """The storage of one layer, made on first use for keys like `like` [n, kv_heads, head_dim]."""
        layer = self.layers.get(index)
        if layer is None:
            layer = Layer(_zeros((self.slots, self.max_len, 2, *like.shape[1:]), like))
            self.layers[index] = layer
        return layer

    @torch.inference_mode()
    def copy(self, source: int, target: int, start: int, stop: int) -> int:
        """Copy positions start..stop-1 from one slot to another; returns `stop`."""
        for layer in self.layers.values():
            layer.states[target, start:stop].copy_(layer.states[source, start:stop])
        return stop

    def keep(self, slot: int, length: int) -> None:
        """Positions from `length` on are not needed any more: here they keep their memory."""

    @torch.inference_mode()
    def clear(self, slots: Sequence[int]) -> None:
        """Zero whole slots: a masked NaN would still poison a neighbour's weighted sum (0 · NaN)."""
        for layer in self.layers.values():
            layer.states[list(slots)] = 0


def _zeros(shape: Sequence[int], like: Tensor) -> Tensor:
    """Zeros in `like`'s dtype and place. In host memory they are pages that the system gives when first written.

    They go back to the system as soon as the tensor goes: the allocator would keep and split what a model left.
    """
    if like.device.type != "cpu":
        return like.new_zeros(shape)
    pages = mmap.mmap(-1, prod(shape) * like.element_size(), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return torch.frombuffer(pages, dtype=like.dtype).view(shape)
