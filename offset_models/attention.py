"""Attention over key/value slots for packed batches, as an attention function of transformers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from offset_models.slots import KVSlots

SLOT_ATTENTION = "key_value_slots"
VIEWS_PER_GATHER = 4  # a call on a view costs about as much as gathering this many short sequences


@dataclass(frozen=True, slots=True)
class Entry:
    """A sequence's share of a packed batch."""

    slot: int
    start: int  # tokens already in the slot
    n: int  # new tokens


@dataclass(slots=True)
class Group:
    """Entries with the same number of new tokens, attended in one call."""

    tokens: slice  # their part of the packed axis
    n: int
    slots: slice | Tensor  # a view where slots are neighbours, else indices to gather
    starts: list[int]
    length: int  # longest sequence after this batch
    masks: dict[int | None, Tensor | None]  # by sliding window

    def mask(self, window: int | None, like: Tensor) -> Tensor | None:
        """Additive mask [B, 1, n, length], None where every key is visible to every query."""
        if window not in self.masks:
            self.masks[window] = self._build(window, like)
        return self.masks[window]

    def _build(self, window: int | None, like: Tensor) -> Tensor | None:
        uncut = window is None or self.length <= window
        if self.n == 1 and uncut and min(self.starts) == self.length - 1:
            return None
        key = torch.arange(self.length, device=like.device)
        query = torch.tensor(self.starts, device=like.device)[:, None] + torch.arange(self.n, device=like.device)
        hidden = key > query[..., None]
        if not uncut:
            hidden |= key <= query[..., None] - window  # type: ignore[operator]
        return torch.zeros_like(hidden, dtype=like.dtype).masked_fill_(hidden, -torch.inf)[:, None]


class SlotBatch:
    """Where each token of the packed batch that is running reads and writes. One object per runner, planned anew."""

    def __init__(self, kv: KVSlots, device: torch.device, dtype: torch.dtype) -> None:
        self.kv = kv
        self.device = device
        self.dtype = dtype
        self.groups: list[Group] = []
        self.slots = self.positions = torch.empty(0, dtype=torch.long)

    def plan(self, entries: Sequence[Entry]) -> None:
        """Prepare for packed `entries`, in their order."""
        self.groups = list(self._grouped(entries))
        self.slots = self._tensor([e.slot for e in entries for _ in range(e.n)])
        self.positions = self._tensor([e.start + i for e in entries for i in range(e.n)])

    def _tensor(self, values: list[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.long, device=self.device)

    def _grouped(self, entries: Sequence[Entry]) -> Iterator[Group]:
        offset = 0
        for n, members in groupby(entries, key=lambda e: e.n):
            same = list(members)
            runs = list(_runs(same))
            if len(runs) * VIEWS_PER_GATHER > len(same) and len(runs) > 1:
                runs = [same]
            for run in runs:
                yield self._group(run, n, offset)
                offset += n * len(run)

    def _group(self, run: list[Entry], n: int, offset: int) -> Group:
        first, last = run[0].slot, run[-1].slot
        adjacent = all(e.slot == first + i for i, e in enumerate(run))
        slots = slice(first, last + 1) if adjacent else self._tensor([e.slot for e in run])
        starts = [e.start for e in run]
        return Group(slice(offset, offset + n * len(run)), n, slots, starts, max(starts) + n, {})


def _runs(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    """Split where the slots are not neighbours."""
    run: list[Entry] = []
    for entry in entries:
        if run and entry.slot != run[-1].slot + 1:
            yield run
            run = []
        run.append(entry)
    yield run


@torch.compiler.disable  # type: ignore[untyped-decorator]
def slot_attention(
    module: nn.Module,
    query: Tensor,  # [1, heads, tokens, head_dim]
    key: Tensor,  # [1, kv_heads, tokens, head_dim]
    value: Tensor,
    _mask: Tensor | None = None,  # transformers makes none for an attention function it does not know
    *,
    slot_batch: SlotBatch,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **extra: Any,
) -> tuple[Tensor, None]:
    """Store the new keys and values, attend within each sequence; returns [1, tokens, heads, head_dim]."""
    if extra.get("softcap") is not None or extra.get("s_aux") is not None or extra.get("position_bias") is not None:
        raise ValueError(f"{type(module).__name__} asks for an attention variant that is not supported.")
    layer = slot_batch.kv.layer(int(module.layer_idx), key)  # type: ignore[arg-type]
    index = (slot_batch.slots, slice(None), slot_batch.positions)
    layer.keys[index] = key[0].transpose(0, 1)
    layer.values[index] = value[0].transpose(0, 1)
    queries = query[0].transpose(0, 1)
    parts = [
        _attend(group, queries[group.tokens], layer.keys, layer.values, scaling, sliding_window)
        for group in slot_batch.groups
    ]
    return (parts[0] if len(parts) == 1 else torch.cat(parts))[None], None


def _attend(
    group: Group, queries: Tensor, keys: Tensor, values: Tensor, scaling: float | None, window: int | None
) -> Tensor:
    """[B·n, heads, head_dim] -> the same shape. Query heads that share a key head are folded into its query axis."""
    n, kv_heads = group.n, keys.shape[1]
    batch, dim = len(group.starts), queries.shape[-1]
    share = queries.shape[1] // kv_heads
    folded = queries.reshape(batch, n, kv_heads, share, dim).permute(0, 2, 3, 1, 4).reshape(batch, kv_heads, -1, dim)
    mask = group.mask(window, queries)
    if mask is not None and share > 1 and n > 1:
        mask = mask.repeat(1, 1, share, 1)
    attended = scaled_dot_product_attention(
        folded,
        keys[:, :, : group.length][group.slots],
        values[:, :, : group.length][group.slots],
        attn_mask=mask,
        scale=scaling,
    )
    unfolded = attended.reshape(batch, kv_heads, share, n, dim).permute(0, 3, 1, 2, 4)
    return unfolded.reshape(batch * n, kv_heads * share, dim)


ALL_ATTENTION_FUNCTIONS.register(SLOT_ATTENTION, slot_attention)
