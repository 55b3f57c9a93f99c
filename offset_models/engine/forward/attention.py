"""Attention over key/value slots for packed batches; also as an attention function of transformers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from deltaserve.offset_models.engine.forward.branches import Branches, visible
from deltaserve.offset_models.engine.forward.slots import KVSlots, Layer

SLOT_ATTENTION = "key_value_slots"
WIDEST_VIEW = 2  # a view over this many times the slots that run costs less than gathering theirs


@dataclass(frozen=True, slots=True)
class Entry:
    """A sequence's share of a packed batch."""

    slot: int
    start: int  # tokens already in the slot
    n: int  # new tokens, those of branches included
    branches: Branches | None = None  # the last of the new tokens

    @property
    def positions(self) -> list[int]:
        """Of the new tokens."""
        if self.branches is None:
            return list(range(self.start, self.start + self.n))
        return [*range(self.start, self.stop), *self.branches.positions]

    @property
    def stop(self) -> int:
        """Tokens of the sequence after this batch."""
        return self.start + self.n - (0 if self.branches is None else len(self.branches.token_ids))


@dataclass(slots=True)
class Group:
    """Entries with the same number of new tokens, attended in one call.

    The slots between its own are read along where that is cheaper than gathering (`lines` says which count).
    """

    tokens: slice  # their part of the packed axis
    n: int
    slots: slice | Tensor  # a view, or indices to gather
    lines: Tensor | None  # [B] places of the entries in the view; None: all of it, in order
    starts: list[int]  # of every slot in the call
    length: int  # longest sequence after this batch
    masks: dict[int | None, Tensor | None]  # by sliding window
    tree: Entry | None = None  # the only entry, where it has branches

    def mask(self, window: int | None, like: Tensor) -> Tensor | None:
        """Additive mask [slots, 1, n, length], None where every key is visible to every query."""
        if window not in self.masks:
            self.masks[window] = self._build(window, like) if self.tree is None else _of_tree(self.tree, window, like)
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
        return _additive(hidden, like)


def _of_tree(entry: Entry, window: int | None, like: Tensor) -> Tensor | None:
    """Of an entry with branches, [1, 1, n, length]."""
    if entry.branches is None:
        return None
    hidden = ~visible(entry.branches, entry.start, entry.stop, like.device)
    if window is not None:
        new = torch.tensor(entry.positions, device=like.device)
        key = torch.cat((torch.arange(entry.start, device=like.device), new))
        hidden |= key <= new[:, None] - window
    return _additive(hidden[None], like)


def _additive(hidden: Tensor, like: Tensor) -> Tensor:
    """[slots, n, length] bool -> [slots, 1, n, length]."""
    return torch.zeros_like(hidden, dtype=like.dtype).masked_fill_(hidden, -torch.inf)[:, None]


class SlotBatch:
    """Where each token of the packed batch that is running reads and writes. One object per runner, planned anew."""

    def __init__(self, kv: KVSlots, device: torch.device) -> None:
        self.kv = kv
        self.device = device
        self.groups: list[Group] = []
        self.positions = self.places = torch.empty(0, dtype=torch.long)

    def plan(self, entries: Sequence[Entry]) -> None:
        """Prepare for packed `entries`, in their order."""
        self.groups = list(self._grouped(entries))
        positions = [position for e in entries for position in e.positions]
        places = [e.slot * self.kv.max_len + e.start + i for e in entries for i in range(e.n)]
        self.positions, self.places = self._tensor([positions, places])

    def attend(
        self, index: int, queries: Tensor, keys: Tensor, values: Tensor, scaling: float | None, window: int | None
    ) -> Tensor:
        """Store keys and values [T, kv_heads, dim] of layer `index`, attend queries [T, heads, dim]; as queries."""
        layer = self.kv.layer(index, keys)
        layer.write(self.places, keys, values)
        parts = [_attend(group, queries[group.tokens], layer, scaling, window) for group in self.groups]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _tensor(self, values: Any) -> Tensor:
        return torch.tensor(values, dtype=torch.long, device=self.device)

    def _grouped(self, entries: Sequence[Entry]) -> Iterator[Group]:
        offset = 0
        for (n, branching), members in groupby(entries, key=_kind):
            same = list(members)
            yield self._tree(same[0], offset) if branching is not None else self._group(same, n, offset)
            offset += n * len(same)

    def _tree(self, entry: Entry, offset: int) -> Group:
        at, tokens = slice(entry.slot, entry.slot + 1), slice(offset, offset + entry.n)
        return Group(tokens, entry.n, at, None, [entry.start], entry.start + entry.n, {}, entry)

    def _group(self, same: list[Entry], n: int, offset: int) -> Group:
        indices, starts = [e.slot for e in same], [e.start for e in same]
        tokens, length = slice(offset, offset + n * len(same)), max(starts) + n
        low, span = min(indices), max(indices) - min(indices) + 1
        if indices == list(range(low, low + span)):
            return Group(tokens, n, slice(low, low + span), None, starts, length, {})
        if span > WIDEST_VIEW * len(same):
            return Group(tokens, n, self._tensor(indices), None, starts, length, {})
        spread = [0] * span
        for slot, start in zip(indices, starts, strict=True):
            spread[slot - low] = start
        lines = self._tensor([slot - low for slot in indices])
        return Group(tokens, n, slice(low, low + span), lines, spread, length, {})


def _kind(entry: Entry) -> tuple[int, int | None]:
    """Entries of one kind that follow each other are one group; one with branches is a kind of its own."""
    return entry.n, None if entry.branches is None else entry.slot


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
    queries, keys, values = (states[0].transpose(0, 1) for states in (query, key, value))
    index = int(module.layer_idx)  # type: ignore[arg-type]
    return slot_batch.attend(index, queries, keys, values, scaling, sliding_window)[None], None


def _attend(group: Group, queries: Tensor, layer: Layer, scaling: float | None, window: int | None) -> Tensor:
    """[B·n, heads, head_dim] -> the same shape. Query heads that share a key head are folded into its query axis."""
    n, heads, dim = group.n, queries.shape[1], queries.shape[2]
    kv_heads = layer.states.shape[3]
    share = heads // kv_heads
    spread = _spread(group, queries.reshape(-1, n * heads * dim))
    folded = spread.view(-1, n, kv_heads, share, dim).permute(0, 2, 3, 1, 4).reshape(-1, kv_heads, share * n, dim)
    mask = group.mask(window, queries)
    if mask is not None and share > 1 and n > 1:
        mask = mask.repeat(1, 1, share, 1)
    states = layer.states.narrow(1, 0, group.length)
    states = states[group.slots] if isinstance(group.slots, slice) else states.index_select(0, group.slots)
    keys, values = (states[:, :, part].transpose(1, 2) for part in (0, 1))
    attended = scaled_dot_product_attention(folded, keys, values, attn_mask=mask, scale=scaling)
    unfolded = attended.view(-1, kv_heads, share, n, dim).permute(0, 3, 1, 2, 4)
    return _picked(group, unfolded).reshape(-1, heads, dim)


def _spread(group: Group, queries: Tensor) -> Tensor:
    """[B, ...] -> one line for every slot that is read."""
    if group.lines is None:
        return queries
    return queries.new_zeros((len(group.starts), queries.shape[1])).index_copy_(0, group.lines, queries)


def _picked(group: Group, attended: Tensor) -> Tensor:
    """The lines of the group's own entries, in their order."""
    return attended if group.lines is None else attended.index_select(0, group.lines)


def without_plans_per_length() -> None:
    """No cuDNN attention in this process: it plans anew for every key length, and every step has another length.

    Measured on an H200 with a 0.5B base, one stream: 12 rows a second with it, 118 without.
    """
    torch.backends.cuda.enable_cudnn_sdp(False)


ALL_ATTENTION_FUNCTIONS.register(SLOT_ATTENTION, slot_attention)
