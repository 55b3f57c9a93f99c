"""The offset engine with the versions it serves, put together in one way for the server, training and benchmarks."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import orjson

from deltaserve.errors import BadCheckpoint

if TYPE_CHECKING:
    from deltaserve.offset_models.bridge.bridges import Bridges
    from deltaserve.offset_models.checkpoints.checkpoint import Checkpoint
    from deltaserve.offset_models.engine.settings import EngineSettings
    from deltaserve.offset_models.registry.journal import Writes
    from deltaserve.offset_models.registry.registry import Registry

_LONGEST_CONTEXT = 4096  # of one stream in the pair, where neither the operator nor the base says less


@asynccontextmanager
async def open_versions(
    engine_settings: "EngineSettings",
    root: Path,
    *,
    served: str,
    base: Path | None = None,
    folder: Path | None = None,
    writes: "Writes | None" = None,
    target: Mapping[str, Any] | None = None,
    tokenizer: Path | None = None,
    tables: Path | None = None,
) -> AsyncIterator["Registry"]:
    """A running engine and its registry, which still has to be started. Imports torch. The rest is as `Registry` says.

    `base`: the folder of the base model, for checkpoints that do not bring their own. `tokenizer`: the folder of the
    black box's tokenizer, where the offsets may have another one; `tables`: what is built for it once is kept there,
    by default in `folder`. Raises BadCheckpoint for one that cannot be read.
    """
    from deltaserve.offset_models.engine.engine import Engine
    from deltaserve.offset_models.engine.pair_engine import PairEngine
    from deltaserve.offset_models.registry.registry import Registry
    from deltaserve.offset_models.registry.weights import WeightsPool

    bridges = None if tokenizer is None else await asyncio.to_thread(_bridges, tokenizer, tables or folder)
    if bridges is not None:
        target = {**(target or {}), "tokenizer": bridges.box.fingerprint.ids}
    engine = Engine(engine_settings)
    engine.start()
    try:
        bases = {} if base is None else _OneBase(base)
        registry: Registry

        def accept(new: "Checkpoint") -> None:
            if bridges is None:
                _refuse_other_ids(new, registry)

        pool = WeightsPool(PairEngine(engine), root, bases, accept, bridges)
        registry = Registry(pool, root=root, served=served, folder=folder, writes=writes, target=target)
        try:
            yield registry
        finally:
            await registry.close()
    finally:
        await asyncio.to_thread(engine.close)


def _bridges(tokenizer: Path, folder: Path | None) -> "Bridges":
    """From the black box's tokenizer to whatever the offsets have; tables are kept in the folder."""
    from deltaserve.offset_models.bridge.bridges import Bridges
    from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer

    return Bridges(Tokenizer.load(tokenizer), folder)


def _refuse_other_ids(new: "Checkpoint", registry: "Registry") -> None:
    """All loaded offsets share the tokenizer that the black box was, or will be, probed with. Raises BadCheckpoint."""
    for _, _, version in registry.cards():
        if differing := version.tokenizer.fingerprint.mismatch(new.tokenizer.fingerprint):
            raise BadCheckpoint(
                f"The tokenizer of {new.manifest.name!r} is not the one of the offsets that are loaded and of the "
                f"black box ({differing}); its ids would mean other tokens."
            )


class _OneBase(dict[str, Path]):
    """One folder under every name. The checkpoint compares its digest, so the name need not be checked here."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __missing__(self, name: str) -> Path:
        return self._folder

    def __contains__(self, name: object) -> bool:
        return True


def default_dtype(device: str) -> Literal["float32"] | None:
    """The float type of the pair: as stored on accelerators (None); float32 on CPUs, where half precision is slower."""
    return "float32" if device == "cpu" else None


def longest_context(*models: Path) -> int:
    """Tokens of prompt and answer that a stream may hold, by those of the model folders that can be read."""
    return min([_LONGEST_CONTEXT, *filter(None, map(_positions, models))])


def _positions(model: Path) -> int | None:
    positions = (json_object(model / "config.json") or {}).get("max_position_embeddings")
    return positions if type(positions) is int and positions > 0 else None


def json_object(file: Path) -> dict[str, Any] | None:
    """The object in a JSON file; None where there is none or it cannot be read."""
    try:
        value = orjson.loads(file.read_bytes())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None
