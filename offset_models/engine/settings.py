"""Bounds of the engine, its device and its number format."""

from dataclasses import dataclass
from typing import Literal

import torch


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """Bounds and placement of the offset engine. Raises ValueError for a bound that is not positive."""

    max_streams: int = (
        16  # sessions at a time; a LoRA pair takes two slots of its base for each, a full pair one of both
    )
    max_len: int = 4096  # tokens of one stream, prompt and answer
    spare_slots: int = 4  # slots per model beyond those, which keep prefixes of ended streams
    max_waiting: int = 64  # callers that may wait for a place
    retry_after_s: float = 1.0  # told to those who could not
    chunk_tokens: int = 256  # prompt tokens that one batch may carry
    step_tokens: int = 8  # a stream with no more than this to compute does it at once, outside that budget
    max_ahead: int = 32  # rows kept ahead of the position asked for
    gather_s: float = 0.002  # how long a batch waits at least for other open streams, while nobody waits for it
    longest_gather_s: float = 0.01  # and at most, where the black box takes longer than that for a token
    prefix_block: int = 32  # shortest prefix worth sharing
    threads: int | None = None  # torch threads of the engine; None: torch's own choice
    device: str = "cpu"
    dtype: Literal["float32", "bfloat16", "float16"] | None = None  # None: as stored
    compile_model: bool = False  # torch.compile
    batch_decisions: bool | None = None  # in the engine, for all streams at once; None: where rows are on a device

    def __post_init__(self) -> None:
        bounds = ("max_streams", "max_len", "chunk_tokens", "step_tokens", "max_ahead", "prefix_block")
        for name in bounds:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1.")
        if min(self.spare_slots, self.max_waiting, self.retry_after_s, self.gather_s, self.longest_gather_s) < 0:
            raise ValueError("spare_slots, max_waiting, retry_after_s and the gather times must not be negative.")
        if self.threads is not None and self.threads < 1:
            raise ValueError("threads must be at least 1.")

    @property
    def decides(self) -> bool:
        """Whether the engine decides tokens itself. In host memory a row costs nothing to look at from elsewhere."""
        return self.device != "cpu" if self.batch_decisions is None else self.batch_decisions

    @property
    def torch_dtype(self) -> torch.dtype | None:
        return None if self.dtype is None else getattr(torch, self.dtype)
