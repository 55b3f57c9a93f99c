"""Loads verified checkpoints into the engine; the registry reaches torch only through this."""

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial

from deltaserve.offset_models.checkpoints.checkpoint import LAYOUT, Checkpoint
from deltaserve.offset_models.checkpoints.manifest import Manifest
from deltaserve.offset_models.checkpoints.model_files import load_model
from deltaserve.offset_models.checkpoints.peft_files import load_adapter
from deltaserve.offset_models.engine.engine import Engine
from deltaserve.offset_models.engine.pair import Adapter, FullModel, Pair, PairHandle
from deltaserve.offset_models.files.digests import digest_of
from deltaserve.offset_models.files.library_errors import refusing
from deltaserve.server.decoding.deciding.corrector import PairSession


class PairEngine:
    """`weights.Engine` over the real one, which its owner starts and closes."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @property
    def alive(self) -> bool:
        return self._engine.alive

    @property
    def max_context(self) -> int:
        return self._engine.settings.max_len

    @property
    def max_streams(self) -> int:
        return self._engine.settings.max_streams

    def stats(self) -> dict[str, float]:
        """The engine's counters since its start, by name."""
        return asdict(self._engine.stats())

    async def load(self, checkpoint: Checkpoint) -> PairHandle:
        with refusing(f"The offset {checkpoint.manifest.name!r} cannot be loaded"):
            return await self._engine.add_pair(pair_of(checkpoint))

    async def unload(self, handle: PairHandle) -> None:
        await self._engine.remove_pair(handle)

    def memory_bytes(self, handle: PairHandle) -> int:
        return self._engine.pair_bytes(handle)

    async def open(
        self, parts: Sequence[tuple[PairHandle, float]], timeout_s: float, *, gated: bool = True
    ) -> PairSession:
        return await self._engine.open(parts, timeout_s=timeout_s, gated=gated)

    async def open_each(self, handles: Sequence[PairHandle], timeout_s: float) -> Sequence[PairSession]:
        return await self._engine.open_each([[(handle, 1.0)] for handle in handles], timeout_s=timeout_s)


def pair_of(checkpoint: Checkpoint) -> Pair:
    """The checkpoint's models as sources, keyed by digest: what two checkpoints share is loaded once."""
    manifest = checkpoint.manifest
    if manifest.base is None:
        initial = FullModel(_side_digest(manifest, "initial"), partial(load_model, checkpoint.initial_folder))
        unlearned: FullModel | Adapter = FullModel(
            _side_digest(manifest, "unlearned"), partial(load_model, checkpoint.unlearned_folder)
        )
    else:
        initial = FullModel(manifest.base.digest, partial(load_model, checkpoint.initial_folder))
        adapter = digest_of([manifest.files[path].sha256 for path in LAYOUT["lora"]])
        unlearned = Adapter(adapter, partial(load_adapter, checkpoint.adapter_folder))
    return Pair(initial, unlearned, manifest.vocab_size, manifest.masked_ids, manifest.gate_nats)


def _side_digest(manifest: Manifest, side: str) -> str:
    """As `digests.model_digest`, from the digests that were verified."""
    here = {
        path.partition("/")[2]: entry.sha256 for path, entry in manifest.files.items() if path.startswith(f"{side}/")
    }
    weights = sorted(name for name in here if name.endswith(".safetensors"))
    return digest_of([[name, here[name]] for name in ["config.json", *weights]])
