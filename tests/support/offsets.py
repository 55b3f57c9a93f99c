"""Checkpoints of toy size and an engine that keeps books instead of computing."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from deltaserve.errors import BadCheckpoint, OffsetUnavailable
from deltaserve.offset_models.checkpoints.checkpoint import Checkpoint
from deltaserve.offset_models.checkpoints.manifest import Manifest
from deltaserve.offset_models.checkpoints.pack import write_full_checkpoint, write_lora_checkpoint
from deltaserve.server.decoding.deciding.corrector import CorrectingSession
from deltaserve.server.decoding.deciding.row_session import RowSession
from deltaserve.server.decoding.rows import NumpyRow
from tests.support.vocabularies import byte_level

Tensors = dict[str, NDArray[np.float32]]


def model_folder(folder: Path, seed: int = 0) -> Path:
    """config.json, weights and a tokenizer; the numbers mean nothing."""
    byte_level(folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "vocab_size": 512}))
    save_file({"embed": _noise(seed, 512, 4)}, folder / "model.safetensors")
    return folder


def adapter_tensors(seed: int = 1, scale: float = 1.0) -> Tensors:
    prefix = "base_model.model.model.layers.0.self_attn.q_proj"
    return {f"{prefix}.lora_A.weight": _noise(seed, 2, 4), f"{prefix}.lora_B.weight": scale * _noise(seed + 1, 4, 2)}


def adapter_folder(folder: Path, tensors: Tensors | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"], "lora_dropout": 0.0}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    save_file(adapter_tensors() if tensors is None else tensors, folder / "adapter_model.safetensors")
    return folder


def lora_checkpoint(root: Path, name: str, seed: int = 1, strength: float = 1.0) -> Manifest:
    """`root/name` on the base `root/base`, which is made when it is not there."""
    base = root / "base"
    if not base.exists():
        model_folder(base)
    adapter = adapter_folder(root.parent / f"{name}-adapter", adapter_tensors(seed))
    return write_lora_checkpoint(
        root / name,
        name=name,
        adapter_folder=adapter,
        base_folder=base,
        base_name="toy-base",
        base_path="../base",
        method="idk",
        strength=strength,
        card={"forget_rouge": 0.1},
        licence="Apache-2.0",
    )


def full_checkpoint(root: Path, name: str) -> Manifest:
    parts = root.parent / f"{name}-parts"
    return write_full_checkpoint(
        root / name,
        name=name,
        initial_folder=model_folder(parts / "initial", 1),
        unlearned_folder=model_folder(parts / "unlearned", 2),
        method="divergence",
        licence="Apache-2.0",
    )


def _noise(seed: int, *shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@dataclass
class BookkeepingEngine:
    """Every load makes a new pair with its own offset row; `loaded` and `sessions` are what a leak would show in."""

    alive: bool = True
    max_context: int = 128
    max_streams: int = 16
    offset: float = 0.5  # of id 0, at strength 1
    loaded: dict[int, Checkpoint] = field(default_factory=dict)
    loads: int = 0
    sessions: int = 0

    def stats(self) -> dict[str, float]:
        return {}

    opened: list[list[tuple[int, float]]] = field(default_factory=list)
    behind_gates: int = 0  # sessions that were opened without them
    gate: asyncio.Event | None = None  # loads wait for it

    async def load(self, checkpoint: Checkpoint) -> int:
        if self.gate is not None:
            await self.gate.wait()
        self.loads += 1
        self.loaded[self.loads] = checkpoint
        return self.loads

    async def unload(self, handle: int) -> None:
        await asyncio.sleep(0)
        del self.loaded[handle]

    def memory_bytes(self, handle: int) -> int:
        return 1000

    async def open(
        self, parts: Sequence[tuple[int, float]], timeout_s: float, *, gated: bool = True
    ) -> CorrectingSession:
        for handle, _ in parts:
            if handle not in self.loaded:
                raise OffsetUnavailable(f"Pair {handle} is not loaded.")
        self.opened.append(list(parts))
        self.behind_gates += not gated
        self.sessions += 1
        return _Session(self, sum(alpha for _, alpha in parts))

    async def open_each(self, handles: Sequence[int], timeout_s: float) -> list[CorrectingSession]:
        return [await self.open([(handle, 1.0)], timeout_s) for handle in handles]


class _Session(RowSession):
    def __init__(self, engine: BookkeepingEngine, strength: float) -> None:
        self._engine = engine
        self._strength = strength

    def prefetch(self, token_ids: Sequence[int]) -> None: ...

    async def row(self, token_ids: Sequence[int]) -> NumpyRow:
        if not token_ids:
            raise BadCheckpoint("An empty prefix has no row.")
        offset = np.zeros(8)
        offset[0] = self._engine.offset * self._strength
        return NumpyRow(np.full(8, -np.log(8.0)), offset)

    def close(self) -> None:
        self._engine.sessions -= 1
