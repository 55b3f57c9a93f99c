"""The device, and a pair of a real shape with random weights, made on the spot."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from shutil import copy
from typing import Any, Final, Literal

import torch
from transformers import AutoModelForCausalLM, Qwen2Config

from benchmarks.support.adapters import EVERY_LAYER, TARGETS, pack_root, random_adapter
from benchmarks.support.processes import WEIGHTS, Running, black_box
from deltaserve.offset_models.checkpoints.model_files import load_model
from deltaserve.offset_models.checkpoints.pack import TOKENIZER_FILES
from deltaserve.offset_models.checkpoints.peft_files import load_adapter
from deltaserve.offset_models.engine.pair import Adapter, FullModel, Pair

Dtype = Literal["float32", "bfloat16"]
HALF_BILLION: Final[dict[str, Any]] = {  # Qwen2.5-0.5B
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "vocab_size": 151_936,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": True,
}
TINY: Final[dict[str, Any]] = {
    **HALF_BILLION,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 4096,
}
NEARLY_NOTHING: Final = (
    0.002  # size of the adapter's weights: it costs what a real one costs and changes hardly a token
)


@dataclass(frozen=True)
class Setup:
    """What all parts share. On `cpu` shapes are tiny: only the code is tried."""

    device: str
    folder: Path
    processes: ExitStack  # ends them
    every_layer: bool = False  # the adapter is on all linear layers, with rank 16; else on two of attention, with 8
    _boxes: dict[tuple[str, ...], Running] = field(default_factory=dict)

    @property
    def tiny(self) -> bool:
        return self.device == "cpu"

    @property
    def dtype(self) -> Dtype:
        """As it is served on this device."""
        return "float32" if self.tiny else "bfloat16"

    @property
    def streams(self) -> Sequence[int]:
        return (1, 4) if self.tiny else (1, 16, 64)

    @property
    def width(self) -> int:
        """Ids of the pair's models."""
        size: int = (TINY if self.tiny else HALF_BILLION)["vocab_size"]
        return size

    @cached_property
    def root(self) -> Path:
        """An offsets root with the pair: the base in bfloat16 with the demo's tokenizer, and its one offset."""
        base = self.folder / "root" / "base"
        base.mkdir(parents=True)
        torch.manual_seed(0)
        with torch.device(self.device):
            config = Qwen2Config(**(TINY if self.tiny else HALF_BILLION))
            model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
        model.cpu().save_pretrained(base)
        for name in TOKENIZER_FILES:
            if (WEIGHTS / "base" / name).is_file():
                copy(WEIGHTS / "base" / name, base)
        return pack_root(base.parent, self.adapter_on(base))

    def adapter_on(self, base: Path) -> Path:
        folder = self.folder / "adapter"
        rank, targets = (16, EVERY_LAYER) if self.every_layer else (8, TARGETS)
        random_adapter(base, folder, rank, targets=targets, size=NEARLY_NOTHING)
        return folder

    def pair(self) -> Pair:
        """The same pair over all ids of its models, also those that the demo's tokenizer does not have."""
        base, adapter = self.root / "base", self.folder / "adapter"
        return Pair(
            FullModel(str(base), lambda: load_model(base)),
            Adapter(str(adapter), lambda model: load_adapter(adapter, model)),
            self.width,
        )

    def box(self, *pace: str) -> Running:
        """The demo's black box, which may list its whole vocabulary; on a CPU one for all parts, without a pace."""
        flags = () if self.tiny else pace
        if flags not in self._boxes:
            self._boxes[flags] = self.processes.enter_context(black_box("--max-logprobs", "-1", *flags))
        return self._boxes[flags]

    def wait(self) -> None:
        """Until the device has done what it was given."""
        if not self.tiny:
            torch.cuda.synchronize()


def card(device: str) -> str:
    return "no card" if device == "cpu" else torch.cuda.get_device_name()
