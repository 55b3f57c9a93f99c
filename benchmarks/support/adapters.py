"""Adapters that only have to cost what a real one costs."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

TARGETS = ("q_proj", "v_proj")


def random_adapter(base: Path, folder: Path, rank: int = 8) -> None:
    """A peft-shaped LoRA of small random weights for every attention layer of `base`, written to `folder`."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype="float32")
    generator = torch.Generator().manual_seed(0)
    weights = {}
    for name, module in model.named_modules():
        if name.endswith(TARGETS) and isinstance(module, torch.nn.Linear):
            down = 0.02 * torch.randn(rank, module.in_features, generator=generator)
            up = 0.02 * torch.randn(module.out_features, rank, generator=generator)
            weights[f"base_model.model.{name}.lora_A.weight"] = down
            weights[f"base_model.model.{name}.lora_B.weight"] = up
    save_file(weights, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": 2 * rank, "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps(config | {"target_modules": list(TARGETS)}))
