"""Whether a model runs over pages, and with which attention."""

from importlib.util import find_spec

import torch

from deltaserve.offset_models.engine.forward.fused import FusedDecoder, plain_gate
from deltaserve.offset_models.engine.forward.lora import AdapterBank
from deltaserve.offset_models.engine.forward.paged.decoder import MOST_ROWS, RowDecoder, RowOperations
from deltaserve.offset_models.engine.forward.paged.pages import PagedKV, PageShape
from deltaserve.offset_models.engine.forward.paged.reference import plain_attention
from deltaserve.offset_models.engine.forward.stacked import RowAdapters

PLAIN = RowOperations(plain_attention, plain_gate, RowAdapters)


def runs_over_pages(device: torch.device) -> bool:
    """On GPUs with triton. In host memory a slot takes what is written into it anyway."""
    return device.type == "cuda" and find_spec("triton") is not None


def paged_storage(decoder: FusedDecoder, slots: int, max_len: int, like: torch.Tensor) -> PagedKV:
    """Pages for a decoder, in the dtype and on the device of `like`."""
    shape = PageShape(len(decoder.blocks), decoder.kv_heads, decoder.head_dim)
    return PagedKV(slots, max_len, shape, like.dtype, like.device)


def row_decoder(decoder: FusedDecoder, adapters: AdapterBank, pages: PagedKV, most_rows: int = MOST_ROWS) -> RowDecoder:
    """With kernels and graphs on a GPU, in plain torch elsewhere."""
    on_gpu = pages.anchor.device.type == "cuda"
    operations = _kernels() if on_gpu else PLAIN
    return RowDecoder(decoder, adapters, pages, operations, captured=on_gpu, most_rows=most_rows)


def _kernels() -> RowOperations:
    from deltaserve.offset_models.engine.forward.paged.launch import KERNELS

    return KERNELS
