"""The operations of rows by the Triton kernels. Imported only where triton is there."""

from typing import Any, Final

import torch
from torch import Tensor
from transformers.activations import ACT2FN

from deltaserve.offset_models.engine.forward.fused import Attention, Block, FusedDecoder, plain_gate
from deltaserve.offset_models.engine.forward.paged import kernels
from deltaserve.offset_models.engine.forward.paged.decoder import RowOperations
from deltaserve.offset_models.engine.forward.paged.inputs import RowTensors
from deltaserve.offset_models.engine.forward.paged.pages import PAGE
from deltaserve.offset_models.engine.forward.stacked import RowAdapters, Stack

LEAST_DOT: Final = 16  # rows and columns that a product of tiles has at least
SILU: Final = type(ACT2FN["silu"])
GATE_BLOCK, OUT_BLOCK = 1024, 128
MOST_PARTS, LEAST_PARTS, PROGRAMS = 32, 4, 1024  # few rows are split into more parts, to occupy the whole device


def kernel_attention(decoder: FusedDecoder, rows: RowTensors) -> Attention:
    """As `plain_attention`; can be captured in a graph."""
    n, heads, kv_heads, dim = len(rows.positions), decoder.heads, decoder.kv_heads, decoder.head_dim
    anchor, width = rows.pages.anchor, rows.tables.shape[1]
    n_parts = parts_of(n * kv_heads)
    block = max(LEAST_DOT, _power(dim))
    layer_elements = rows.pages.shape.layer_elements
    where = (rows.slots, rows.positions, rows.tables)

    def rotate(layer: Block, states: Tensor) -> Tensor:
        queries = states.new_empty(n, heads, dim)
        norms = layer.head_norms
        weights = (norms[0].weight, norms[1].weight) if norms else (queries, queries)
        _run(kernels.rotate_and_store, (n, heads + 2 * kv_heads))(
            *(states, queries, anchor, decoder.rotation, *weights, *where),
            *(layer.index * layer_elements, width, norms[0].eps if norms else 0.0),
            **{"HEADS": heads, "KV_HEADS": kv_heads, "DIM": dim, "BLOCK": block, "PAGE": PAGE},
            NORMED=norms is not None,
            num_warps=1,
        )
        return queries

    def attend(layer: Block, states: Tensor) -> Tensor:
        queries = rotate(layer, states)
        sums = torch.empty((2, n, heads, n_parts), dtype=torch.float32, device=states.device)
        parts = torch.empty((n, heads, n_parts, dim), dtype=torch.float32, device=states.device)
        attended = states.new_empty(n, heads * dim)
        _run(kernels.attend_parts, (n, kv_heads, n_parts))(
            *(queries, anchor, parts, sums[0], sums[1], *where),
            *(layer.index * layer_elements, width, n_parts, layer.window or 0, layer.scaling),
            **{"KV_HEADS": kv_heads, "SHARE": heads // kv_heads, "DIM": dim, "BLOCK": block, "PAGE": PAGE},
            SHARE_BLOCK=max(LEAST_DOT, _power(heads // kv_heads)),
            num_warps=4,
        )
        _run(kernels.join_parts, (n * heads,))(
            parts, sums[0], sums[1], attended, DIM=dim, BLOCK=block, N_PARTS=n_parts, num_warps=1
        )
        return attended

    return attend


def kernel_gate(block: Block, states: Tensor) -> Tensor:
    """As `plain_gate`."""
    if not isinstance(block.activation, SILU):
        return plain_gate(block, states)
    n, width = states.shape[0], states.shape[1] // 2
    gated = states.new_empty(n, width)
    _run(kernels.gate_silu, (n, -(-width // GATE_BLOCK)))(states, gated, width, BLOCK=GATE_BLOCK, num_warps=4)
    return gated


class KernelRowAdapters(RowAdapters):
    """As `RowAdapters`, the mask and the second product in one."""

    __slots__ = ()

    def add_own(self, output: Tensor, inner: Tensor, stack: Stack) -> None:
        (n, width), rank = output.shape, len(stack.key)
        _run(kernels.add_own, (-(-n // LEAST_DOT), -(-width // OUT_BLOCK)))(
            *(output, inner, stack.b, self.numbers, stack.owners, n, width, rank),
            **{"ROWS": LEAST_DOT, "COLUMNS": OUT_BLOCK, "RANKS": min(64, max(LEAST_DOT, _power(rank)))},
            num_warps=4,
        )


KERNELS: Final = RowOperations(kernel_attention, kernel_gate, KernelRowAdapters)


def parts_of(programs: int) -> int:
    """Into how many parts the keys of a row are split where rows and key heads make `programs`; a power of two."""
    return max(LEAST_PARTS, min(MOST_PARTS, _power(PROGRAMS // programs)))


def _run(kernel: Any, grid: tuple[int, ...]) -> Any:
    return kernel[grid]


def _power(n: int) -> int:
    """The smallest power of two that is not below n."""
    return 1 << max(0, n - 1).bit_length()
