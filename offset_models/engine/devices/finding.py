"""Which device a name means here."""

from typing import Final

import torch

from deltaserve.errors import BadRequest

AUTO: Final = "auto"


def found_device(name: str = AUTO) -> str:
    """The device that a setting names; `auto` is the GPU where torch finds one, else the CPU. Raises BadRequest."""
    name = ("cuda" if torch.cuda.is_available() else "cpu") if name == AUTO else name
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise BadRequest(f"There is no device {name!r} here: name cpu, cuda, or auto for what there is.") from error
    return name
