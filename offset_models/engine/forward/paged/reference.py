"""Attention of rows over pages in plain torch: what the kernels are tested against, and what runs without a GPU."""

import torch
from torch import Tensor

from deltaserve.offset_models.engine.forward.fused import Attention, Block, FusedDecoder
from deltaserve.offset_models.engine.forward.paged.inputs import RowTensors
from deltaserve.offset_models.engine.forward.paged.pages import PAGE


def plain_attention(decoder: FusedDecoder, rows: RowTensors) -> Attention:
    """Store the keys and values of all rows first; then each row attends to its slot's positions up to its own."""
    turn = decoder.turning(rows.positions)

    def attend(block: Block, states: Tensor) -> Tensor:
        queries, keys, values = turn(block, states)
        _store(block.index, rows, torch.stack((keys, values), dim=1))
        return torch.stack([_attended(block, rows, i, query) for i, query in enumerate(queries)]).view(len(states), -1)

    return attend


def _store(layer: int, rows: RowTensors, states: Tensor) -> None:
    """`states` [R, 2, kv_heads, head_dim]."""
    for slot, position, state in zip(rows.slots.tolist(), rows.positions.tolist(), states, strict=True):
        name = int(rows.tables[slot, position // PAGE])
        rows.pages.page(name)[layer, position % PAGE] = state


def _attended(block: Block, rows: RowTensors, row: int, query: Tensor) -> Tensor:
    """`query` [heads, head_dim] of one row over what its slot holds; of the same shape."""
    last = int(rows.positions[row])
    names = rows.tables[int(rows.slots[row]), : last // PAGE + 1].tolist()
    states = torch.cat([rows.pages.page(name)[block.index] for name in names])
    first = 0 if block.window is None else max(0, last - block.window + 1)
    keys, values = states[first : last + 1].unbind(1)  # [n, kv_heads, head_dim]
    share = len(query) // keys.shape[1]
    keys, values = (part.repeat_interleave(share, dim=1) for part in (keys, values))
    weights = torch.einsum("hd,nhd->hn", query, keys).float() * block.scaling
    return torch.einsum("hn,nhd->hd", weights.softmax(-1).to(values.dtype), values)
