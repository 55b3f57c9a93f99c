"""Which number format a run computes in. Adapter, losses and optimiser are in float32 whatever it is."""

from dataclasses import replace
from typing import Final

import torch

from deltaserve.offset_models.training.learning.settings import TrainingSettings

LEAST_WIDTH: Final = 512  # of the base: a smaller one is quick in float32, and rounds more


def with_precision(settings: TrainingSettings, device: torch.device, width: int) -> TrainingSettings:
    """`auto` as bfloat16 where this CPU multiplies it in hardware. Steps of a 0.5B base are four times as fast then."""
    wanted = settings.precision == "auto" and device.type == "cpu" and not settings.full
    pays = wanted and width >= LEAST_WIDTH and bfloat16_in_hardware()
    return replace(settings, precision="bfloat16") if pays else settings


def bfloat16_in_hardware() -> bool:
    """Whether this CPU has AMX or AVX512-BF16; False too where torch does not say."""
    names = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(bool(getattr(torch.cpu, name)()) for name in names if hasattr(torch.cpu, name))


def half(settings: TrainingSettings, device: torch.device) -> bool:
    """Whether the models compute in bfloat16."""
    return settings.precision == "bfloat16" or (settings.precision == "auto" and device.type == "cuda")
