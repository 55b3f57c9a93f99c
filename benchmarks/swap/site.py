"""What the drill swaps: three checkpoints on one base, alike in all but their weights."""

from dataclasses import dataclass
from pathlib import Path
from shutil import copytree
from typing import Final

import torch
from torch import nn
from transformers import AutoModelForCausalLM

from deltaserve.offset_models.checkpoints.pack import write_full_checkpoint, write_lora_checkpoint
from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from deltaserve.offset_models.training.learning.adapter import TrainableLora

NAMES: Final = ("one", "two", "three")
TEXTS: Final = ("The river runs north of the town", "Who wrote the book?", "She was born in a small house", "import os")
STRENGTH: Final = 0.12  # of the random adapters: about a fifth of the black box's tokens are replaced
WHOLE: Final = "whole"


@dataclass(frozen=True, slots=True)
class Site:
    """An offsets root with `base`, three checkpoints and a pair of whole models; the black box's model beside it."""

    root: Path
    black_box: Path

    @property
    def prompts(self) -> list[list[int]]:
        tokenizer = Tokenizer.load(self.root / "base")
        return [tokenizer.encode(text, add_special=False) for text in TEXTS]


def make_site(folder: Path, *, black_box: Path, base: Path) -> Site:
    """`base` is copied; the adapters are random, and large enough that answers differ."""
    root = folder / "offsets"
    copytree(base, root / "base")
    for seed, name in enumerate(NAMES, start=1):
        add_checkpoint(root, name, seed)
    _add_whole_pair(root)
    return Site(root, black_box)


def add_checkpoint(root: Path, name: str, seed: int) -> Path:
    """A random adapter on `root/base` as a checkpoint."""
    adapter = root.parent / f"{name}-adapter"
    _random_adapter(root / "base", adapter, seed)
    write_lora_checkpoint(
        root / name,
        name=name,
        adapter_folder=adapter,
        base_folder=root / "base",
        base_name="base",
        base_path="../base",
        method="none",
        licence="Apache-2.0",
    )
    return root / name


def _add_whole_pair(root: Path) -> None:
    """Two models of their own: loading them takes memory that unloading must give back."""
    unlearned = root.parent / "unlearned"
    model = AutoModelForCausalLM.from_pretrained(root / "base")
    with torch.no_grad():
        for weight in model.parameters():
            weight *= 1.05
    model.save_pretrained(unlearned)
    write_full_checkpoint(
        root / WHOLE,
        name=WHOLE,
        initial_folder=root / "base",
        unlearned_folder=unlearned,
        method="none",
        licence="Apache-2.0",
    )


def _random_adapter(base: Path, folder: Path, seed: int) -> None:
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    adapter = TrainableLora(model, rank=4, alpha=8, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    for name, weight in adapter.named_parameters():
        if name.endswith(".b"):
            nn.init.normal_(weight, std=STRENGTH, generator=generator)
    adapter.save(folder, "base")
