"""Views of rows by the kernel. Imported only where triton is there."""

from typing import Any, Final

import torch
from torch import Tensor

from deltaserve.offset_models.engine.deciding.kernels import look_through
from deltaserve.server.decoding.filling import ROUNDING

_BLOCK: Final = 4096
_PASSES: Final = 16


def view(base: Tensor, offset: Tensor, outside: Tensor, tail_base: Tensor, scalars: Tensor, *, full: bool) -> Tensor:
    """[R, 10] float64; see `kernels.look_through`. All rows [R, V] float32 and contiguous."""
    rows, width = base.shape
    found = torch.zeros((rows, 10), dtype=torch.float64, device=base.device)
    kernel: Any = look_through[(rows,)]
    shape = {"WIDTH": width, "PASSES": _PASSES, "BLOCK": _BLOCK}
    kernel(base, offset, outside, tail_base, scalars, found, ROUNDING, FULL=full, **shape, num_warps=16)
    return found
