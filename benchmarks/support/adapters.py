"""Adapters that only have to cost what a real one costs."""

import json
from pathlib import Path
from shutil import copytree
from typing import Final

import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

from deltaserve.offset_models.checkpoints.pack import write_lora_checkpoint

TARGETS: Final = ("q_proj", "v_proj")
EVERY_LAYER: Final = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
OFFSET: Final = "registry-erasure"  # the name under which `processes.deltaserve` serves


def random_adapter(
    base: Path, folder: Path, rank: int = 8, *, targets: tuple[str, ...] = TARGETS, size: float = 0.02
) -> None:
    """A peft-shaped LoRA of random weights for the layers `targets` of `base`, written to `folder`.

    `size`: standard deviation of the weights. At 0.002 hardly a token of any answer changes.
    """
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(base))
    generator = torch.Generator().manual_seed(0)
    weights = {}
    for name, module in model.named_modules():
        if name.endswith(targets) and isinstance(module, torch.nn.Linear):
            down = size * torch.randn(rank, module.in_features, generator=generator)
            up = size * torch.randn(module.out_features, rank, generator=generator)
            weights[f"base_model.model.{name}.lora_A.weight"] = down
            weights[f"base_model.model.{name}.lora_B.weight"] = up
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": 2 * rank, "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps(config | {"target_modules": list(targets)}))


def pack_root(root: Path, adapter: Path) -> Path:
    """`root`, which holds `base`, as an offsets root for `processes.deltaserve`: a checkpoint of `adapter` is added."""
    write_lora_checkpoint(
        root / OFFSET,
        name=OFFSET,
        adapter_folder=adapter,
        base_folder=root / "base",
        base_name="base",
        base_path="../base",
        method="none",
        licence="Apache-2.0",
    )
    return root


def without_effect(base: Path, root: Path) -> Path:
    """An offsets root whose one offset costs what a real one costs and changes hardly a token."""
    copytree(base, root / "base")
    random_adapter(root / "base", root / "adapter", size=0.002)
    return pack_root(root, root / "adapter")
