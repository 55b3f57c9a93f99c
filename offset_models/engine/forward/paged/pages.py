"""Keys and values in pages, for devices whose memory is not given page by page as it is written.

A page holds `PAGE` positions of one sequence in every layer. What is reserved grows with what is used: by doubling, in
chunks that are never moved. A page is named by its distance from the first chunk, in elements, so kernels (and graphs
that were captured before) reach pages that came later through the same base address.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from deltaserve.errors import OffsetUnavailable

PAGE: Final = 64  # positions
FIRST_CHUNK: Final = 64  # pages
KEPT_FREE: Final = 0.05  # of the device's memory: for logits, and for another version that is loaded


@dataclass(frozen=True, slots=True)
class PageShape:
    """What one position of a model takes."""

    layers: int
    kv_heads: int
    head_dim: int

    @property
    def layer_elements(self) -> int:
        """Of one layer's part of a page."""
        return PAGE * 2 * self.kv_heads * self.head_dim

    @property
    def elements(self) -> int:
        return self.layers * self.layer_elements

    @property
    def dimensions(self) -> tuple[int, ...]:
        return self.layers, PAGE, 2, self.kv_heads, self.head_dim


class PagedKV:
    """Keys and values of `slots` sequences of up to `max_len` tokens, as `KVSlots`, in pages.

    Whole pages of a common prefix are shared by the slots that hold it; a slot that writes into a shared page gets a
    page of its own first. When no memory is left, `spare` is asked to give back what an idle slot holds; False: none
    does.
    """

    def __init__(self, slots: int, max_len: int, shape: PageShape, dtype: torch.dtype, device: torch.device) -> None:
        self.slots = slots
        self.max_len = max_len
        self.shape = shape
        self.spare: Callable[[], bool] = lambda: False
        self.most = 1 + slots * -(-max_len // PAGE)  # pages, the scratch page included
        self.table = np.zeros((slots + 1, -(-max_len // PAGE)), dtype=np.int64)  # pages of slots; last: scratch
        self.changes = 1  # of the table so far
        self._dtype, self._device = dtype, device
        self._chunks: list[Tensor] = []
        self._views: dict[int, Tensor] = {}  # every page, [layers, PAGE, 2, kv_heads, head_dim]
        self._users: dict[int, int] = {}  # how many slots hold a page
        self._free: list[int] = []
        self._held: list[list[int]] = [[] for _ in range(slots)]
        if not self._grow():
            raise OffsetUnavailable("The device has no memory for keys and values.")
        self._free.remove(0)  # the first page is scratch: rows that only fill up a batch write there

    @property
    def nbytes(self) -> int:
        """What is reserved now."""
        return sum(chunk.nbytes for chunk in self._chunks)

    @property
    def used_pages(self) -> int:
        """Pages that slots hold, those of idle ones (a cache of prefixes) included."""
        return len(self._users)

    @property
    def anchor(self) -> Tensor:
        """The first chunk: what distances of pages are counted from."""
        return self._chunks[0]

    def page(self, name: int) -> Tensor:
        """[layers, PAGE, 2, kv_heads, head_dim], a view."""
        return self._views[name]

    def reserve(self, slot: int, start: int, stop: int) -> None:
        """Make positions start..stop-1 of a slot its own to write. Raises OffsetUnavailable where no memory is left."""
        held = self._held[slot]
        for index in range(start // PAGE, (stop - 1) // PAGE + 1):
            if index >= len(held):
                self._put(slot, index, self._take())
            elif self._users[held[index]] > 1:
                self._replace(slot, index)

    def copy(self, source: int, target: int, start: int, stop: int) -> int:
        """Give positions start..stop-1 of one slot to another; returns where that ended for want of memory."""
        self.keep(target, start)
        for index in range(start // PAGE, -(-stop // PAGE)):
            low, high = max(start, index * PAGE), min(stop, (index + 1) * PAGE)
            if high - low == PAGE:
                self._share(source, target, index)
            elif not self._copy_part(source, target, index, low, high):
                return low
        return stop

    def keep(self, slot: int, length: int) -> None:
        """Positions from `length` on are not needed any more: their whole pages are given back."""
        held = self._held[slot]
        while len(held) > -(-length // PAGE):
            self._give_back(held.pop())

    def clear(self, slots: Sequence[int]) -> None:
        """Give back all that slots hold. What is read of a page that is taken anew has been written before."""
        for slot in slots:
            self.keep(slot, 0)

    def _put(self, slot: int, index: int, name: int) -> None:
        self._held[slot][index:] = [name]
        self.table[slot, index] = name
        self.changes += 1

    def _share(self, source: int, target: int, index: int) -> None:
        name = self._held[source][index]
        self._users[name] += 1
        self._put(target, index, name)

    @torch.inference_mode()
    def _copy_part(self, source: int, target: int, index: int, low: int, high: int) -> bool:
        """No page is taken from an idle slot for it: that might be the source."""
        held = self._held[target]
        there = index < len(held)
        if there and self._users[held[index]] == 1:
            pass
        elif not (self._free or self._grow()):
            return False
        elif there:
            self._replace(target, index)
        else:
            self._put(target, index, self._take())
        places = slice(low - index * PAGE, high - index * PAGE)
        self._views[held[index]][:, places].copy_(self._views[self._held[source][index]][:, places])
        return True

    @torch.inference_mode()
    def _replace(self, slot: int, index: int) -> None:
        """A page of its own for a slot that shares one, with what that holds."""
        shared, own = self._held[slot][index], self._take()
        self._views[own].copy_(self._views[shared])
        self._give_back(shared)
        self._held[slot][index] = own
        self.table[slot, index] = own
        self.changes += 1

    def _take(self) -> int:
        while not (self._free or self._grow()):
            if not self.spare():
                raise OffsetUnavailable("No memory is left on the device for the keys and values of another token.")
        name = self._free.pop()
        self._users[name] = 1
        return name

    def _give_back(self, name: int) -> None:
        self._users[name] -= 1
        if not self._users[name]:
            del self._users[name]
            self._free.append(name)

    def _grow(self) -> bool:
        """As many pages again as there are, or as memory allows; False where that is none."""
        pages = min(max(FIRST_CHUNK, len(self._views)), self.most - len(self._views), self._affordable())
        while pages > 0:
            try:
                self._add(torch.zeros((pages, *self.shape.dimensions), dtype=self._dtype, device=self._device))
                return True
            except torch.OutOfMemoryError:
                pages //= 2
        return False

    def _add(self, chunk: Tensor) -> None:
        self._chunks.append(chunk)
        first = (chunk.data_ptr() - self.anchor.data_ptr()) // chunk.element_size()
        for i, view in enumerate(chunk):
            self._views[first + i * self.shape.elements] = view
        self._free.extend(first + i * self.shape.elements for i in reversed(range(len(chunk))))

    def _affordable(self) -> int:
        """Pages that the device has room for; the first ones are always tried."""
        if self._device.type != "cuda" or not self._chunks:
            return self.most
        free, total = torch.cuda.mem_get_info(self._device)
        idle = torch.cuda.memory_reserved(self._device) - torch.cuda.memory_allocated(self._device)
        return int(free + idle - KEPT_FREE * total) // (self.shape.elements * self.anchor.element_size())
