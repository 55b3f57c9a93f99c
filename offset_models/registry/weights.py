"""Loaded weights, shared by every version that uses them and freed when the last of those is gone."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
from pydantic import JsonValue

from deltaserve.errors import BadCheckpoint, OffsetUnavailable
from deltaserve.offset_models.checkpoints.checkpoint import NO_BASES, Checkpoint, open_checkpoint
from deltaserve.offset_models.files.library_errors import refusing
from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from deltaserve.server.decoding.deciding.corrector import PairSession
from deltaserve.server.decoding.protocols import OffsetRow

if TYPE_CHECKING:  # they import torch, which who only looks at offsets does without
    from deltaserve.offset_models.bridge.bridge import Bridge
    from deltaserve.offset_models.bridge.bridges import Bridges

CANARY_TEXT: Final = "The quick brown fox jumps over the lazy dog."
CANARY_IDS: Final = 8
CANARY_NATS: Final = 1e-4  # a larger offset than rounding makes of two equal models in one batch
CANARY_TIMEOUT_S: Final = 60.0

Handle = Any  # whatever the engine names a pair by


class EnginePort(Protocol):
    """What the registry needs of the engine that runs the pairs. Its calls do not block the event loop."""

    @property
    def alive(self) -> bool: ...
    @property
    def max_streams(self) -> int:
        """How many at a time."""

    @property
    def max_context(self) -> int:
        """Tokens of prompt and answer that one stream can hold."""

    def stats(self) -> dict[str, float]:
        """Counters since the start, by name."""

    async def load(self, checkpoint: Checkpoint) -> Handle:
        """Raises BadCheckpoint; then nothing of it stays in memory."""

    async def unload(self, handle: Handle) -> None: ...
    def memory_bytes(self, handle: Handle) -> int: ...
    async def open(self, parts: Sequence[tuple[Handle, float]], timeout_s: float, *, gated: bool = True) -> PairSession:
        """A stream of Σ_j α_j·δ_j, gates open unless `gated`. Raises RateLimited when no place is free in time."""

    async def open_each(self, handles: Sequence[Handle], timeout_s: float) -> Sequence[PairSession]:
        """One stream that has a session for each pair, all at strength 1; each is to be closed. Raises as `open`."""


@dataclass(slots=True, eq=False)
class Weights:
    """One checkpoint in the engine."""

    content: str  # `Manifest.content_digest`
    handle: Handle
    tokenizer: Tokenizer
    memory_bytes: int
    card: Mapping[str, JsonValue]
    bridge: "Bridge | None" = None  # to the black box's tokenizer, where that is another one
    users: int = field(default=0)


class WeightsPool:
    """Weights by content digest. Belongs to one event loop."""

    def __init__(
        self,
        engine: EnginePort,
        root: Path,
        bases: Mapping[str, Path] = NO_BASES,
        accept: Callable[[Checkpoint], None] | None = None,
        bridges: "Bridges | None" = None,
    ) -> None:
        """`bridges`: from the black box's tokenizer; without them every pair must have that one."""
        self.engine = engine
        self._root = root
        self._bases = bases
        self._accept = accept
        self._bridges = bridges
        self._loaded: dict[str, Weights] = {}
        self._unloading: set[asyncio.Task[None]] = set()

    @property
    def memory_bytes(self) -> int:
        return sum(weights.memory_bytes for weights in self._loaded.values())

    def stats(self) -> dict[str, float]:
        """Counters of the engine, and of bridges where there may be some, since the start."""
        return self.engine.stats() | (self._bridges.figures() if self._bridges else {})

    async def acquire(self, path: str, content: str) -> Weights:
        """The weights at `path`, loaded now or before; one `release` belongs to each call. Raises BadCheckpoint.

        The files are verified in both cases: those that are loaded may have come from another folder.
        """
        with refusing("The offset cannot be loaded"):
            checkpoint = await self._verified(path, content)
            weights = self._loaded.get(content) or await self._load(checkpoint)
        return self.share(weights)

    def loaded(self, content: str) -> Weights | None:
        """What is in the engine already, verified when it was loaded."""
        return self._loaded.get(content)

    def share(self, weights: Weights) -> Weights:
        """One more user of loaded weights."""
        weights.users += 1
        return weights

    def release(self, weights: Weights) -> None:
        """One user less; the last one's leaving takes them out of the engine."""
        weights.users -= 1
        if weights.users == 0:
            del self._loaded[weights.content]
            task = asyncio.get_running_loop().create_task(self.engine.unload(weights.handle))
            self._unloading.add(task)
            task.add_done_callback(self._unloading.discard)

    async def settle(self) -> None:
        """Wait until everything released so far has left the engine."""
        await asyncio.gather(*self._unloading)

    async def _verified(self, path: str, content: str) -> Checkpoint:
        checkpoint = await asyncio.to_thread(open_checkpoint, path, root=self._root, bases=self._bases)
        if checkpoint.manifest.content_digest != content:
            raise BadCheckpoint(f"{path} is not the checkpoint it was: its content digest differs.")
        if self._accept is not None:
            self._accept(checkpoint)
        return checkpoint

    async def _load(self, checkpoint: Checkpoint) -> Weights:
        bridge = await asyncio.to_thread(self._bridges.to, checkpoint.tokenizer) if self._bridges else None
        handle = await self.engine.load(checkpoint)
        try:
            await self._check_canary(handle, checkpoint.tokenizer)
        except BaseException:
            await self.engine.unload(handle)
            raise
        card = checkpoint.manifest.card or {}
        content = checkpoint.manifest.content_digest
        weights = Weights(content, handle, checkpoint.tokenizer, self.engine.memory_bytes(handle), card, bridge)
        self._loaded[content] = weights
        return weights

    async def _check_canary(self, handle: Handle, tokenizer: Tokenizer) -> None:
        """Computes the offset of a fixed prompt, which must be finite and not zero. Raises BadCheckpoint."""
        ids = tokenizer.encode(CANARY_TEXT, add_special=True)[:CANARY_IDS]
        try:
            session = await self.engine.open([(handle, 1.0)], CANARY_TIMEOUT_S, gated=False)
            try:
                row = await session.row(ids)
            finally:
                session.close()
        except OffsetUnavailable as error:
            if not self.engine.alive:
                raise
            raise BadCheckpoint(f"The offset gave no row for the canary prompt: {error.message}") from error
        _judge(row)


def _judge(row: OffsetRow) -> None:
    offset = row.offset(np.arange(row.vocab_size))
    if not np.isfinite(offset).all():
        raise BadCheckpoint("The canary prompt gave an offset that is not finite.")
    if float(np.abs(offset).max()) < CANARY_NATS:
        raise BadCheckpoint("The canary prompt gave an offset of zero: the unlearned model is the initial one.")
