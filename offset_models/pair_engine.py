"""Verified checkpoints into the engine: the one place where the registry's world meets torch."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, cast

from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.utils import logging as transformers_logging

from offset_models.checkpoint import LAYOUT, Checkpoint
from offset_models.engine import Engine
from offset_models.fingerprint import digest_of
from offset_models.manifest import Manifest
from offset_models.pair import Adapter, FullModel, Pair, PairHandle
from offset_models.peft_files import load_adapter
from server.decoding.protocols import OffsetSession
from server.errors import BadCheckpoint


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

    def stats(self) -> dict[str, float]:
        """The engine's counters since its start, by name."""
        return asdict(self._engine.stats())

    async def load(self, checkpoint: Checkpoint) -> PairHandle:
        return await self._engine.add_pair(pair_of(checkpoint))

    async def unload(self, handle: PairHandle) -> None:
        await self._engine.remove_pair(handle)

    def memory_bytes(self, handle: PairHandle) -> int:
        return self._engine.pair_bytes(handle)

    async def open(
        self, parts: Sequence[tuple[PairHandle, float]], timeout_s: float, *, gated: bool = True
    ) -> OffsetSession:
        return await self._engine.open(parts, timeout_s=timeout_s, gated=gated)


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


def load_model(folder: Path) -> PreTrainedModel:
    """A decoder from safetensors, in the stored dtype; every weight must fit. Raises BadCheckpoint."""
    try:
        with _without_progress_bar():
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                folder,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                dtype="auto",
                output_loading_info=True,
            )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise BadCheckpoint(f"{folder.name} is no causal language model: {type(error).__name__}.") from error
    model, info = loaded
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if info[problem]:
            name = min(str(key) for key in info[problem])
            raise BadCheckpoint(f"The weights in {folder.name} do not fit: {problem.replace('_', ' ')}, first {name}.")
    return cast(PreTrainedModel, model)


@contextmanager
def _without_progress_bar() -> Iterator[None]:
    """No progress bar among the server's log lines."""
    bar = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if bar:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def _side_digest(manifest: Manifest, side: str) -> str:
    """As `safe_files.model_digest`, from the digests that were verified."""
    here = {
        path.partition("/")[2]: entry.sha256 for path, entry in manifest.files.items() if path.startswith(f"{side}/")
    }
    weights = sorted(name for name in here if name.endswith(".safetensors"))
    return digest_of([[name, here[name]] for name in ["config.json", *weights]])
