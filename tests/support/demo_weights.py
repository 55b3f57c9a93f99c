"""A folder like the demo's weights, made in a second: random models that share a tokenizer, and a random adapter."""

from collections.abc import Callable
from pathlib import Path
from shutil import copytree

import torch
from torch import nn
from transformers import LlamaForCausalLM

from deltaserve.offset_models.checkpoints.pack import write_lora_checkpoint
from deltaserve.offset_models.demo.manifest import WeightsManifest
from deltaserve.offset_models.training.learning.adapter import TrainableLora
from tests.support.blackbox import make_model

OFFSET = "registry-erasure"


def make_demo_weights(folder: Path, make: Callable[[Path], Path] = make_model) -> Path:
    """blackbox/, base/, registry-erasure/ and a manifest that fits. `make` writes the random model."""
    make(folder / "blackbox")
    copytree(folder / "blackbox", folder / "base")
    adapter = TrainableLora(LlamaForCausalLM.from_pretrained(folder / "base"), rank=2, alpha=4, seed=1)
    for name, weight in adapter.named_parameters():
        if name.endswith(".b"):
            nn.init.normal_(weight, std=0.3, generator=torch.Generator().manual_seed(2))
    adapter.save(folder.parent / "adapter", "base")
    write_lora_checkpoint(
        folder / OFFSET,
        name=OFFSET,
        adapter_folder=folder.parent / "adapter",
        base_folder=folder / "base",
        base_name="base",
        base_path="../base",
        method="none",
        licence="Apache-2.0",
    )
    WeightsManifest.describe(folder, 0, "mini", {}, {}).write(folder)
    return folder
