"""Small arrays on their way to the device, without waiting for what runs there."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def upload(values: Sequence[int] | NDArray[np.generic], device: torch.device) -> Tensor:
    """A tensor of these values, int64 for a list. `torch.tensor(…, device=…)` would wait until the device is idle."""
    host = torch.from_numpy(np.ascontiguousarray(values))
    return host if device.type == "cpu" else host.to(device, non_blocking=True)
