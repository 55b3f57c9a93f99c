"""The two sides, built from settings: the registry of offset versions, and the probed black box."""

import asyncio
import gc
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import orjson

from deltaserve.errors import BadCheckpoint, NotConfigured
from deltaserve.server.preflight import place, state_folder
from deltaserve.server.serving.service import Parts, Registry
from deltaserve.server.settings import Settings
from deltaserve.server.telemetry import logger
from deltaserve.server.upstream.http.transport import Timeouts
from deltaserve.server.upstream.probing.connect import connect

if TYPE_CHECKING:
    from deltaserve.offset_models.checkpoints.checkpoint import Checkpoint
    from deltaserve.offset_models.registry.registry import Registry as OffsetRegistry

_LONGEST_CONTEXT = 4096  # of one stream in the pair, where neither the operator nor the base says less


async def open_registry(settings: Settings, stack: AsyncExitStack) -> Registry:
    """The engine and the versions it serves, restored or loaded. Raises BadCheckpoint. Imports torch."""
    from deltaserve.offset_models.engine.engine import Engine
    from deltaserve.offset_models.engine.pair_engine import PairEngine
    from deltaserve.offset_models.engine.settings import EngineSettings
    from deltaserve.offset_models.files.locks import locked
    from deltaserve.offset_models.registry.registry import Registry as Versions
    from deltaserve.offset_models.registry.weights import WeightsPool

    root, path = place(settings)
    if (folder := state_folder(settings)) is not None:
        stack.enter_context(locked(folder))
    engine = Engine(
        EngineSettings(
            max_streams=settings.max_streams,
            max_len=_max_len(settings, root / (path or "")),
            max_waiting=settings.max_queue,
            retry_after_s=settings.retry_after_s,
            threads=settings.torch_threads,
            device=settings.device,
            dtype=_dtype(settings),
        )
    )
    engine.start()
    # What was imported stays: a collection, which stops every thread, then only looks at the models (0.25 s otherwise).
    gc.collect()
    gc.freeze()
    stack.push_async_callback(asyncio.to_thread, engine.close)
    bases = OneBase(settings.base) if settings.base else {}
    pool = WeightsPool(PairEngine(engine), root, bases, accept=lambda new: _refuse_other_ids(new, registry))
    registry = Versions(
        pool,
        root=root,
        served=settings.served_name or settings.upstream_model or "",
        folder=folder,
        target={"tail": settings.tail, "k": settings.upstream_k},
    )
    stack.push_async_callback(registry.close)
    await registry.start(path, settings.strength)
    _report(registry, root, path)
    if settings.watch_offsets:
        _watch(registry, root, settings, stack)
    return registry


async def connect_upstream(settings: Settings, registry: Any) -> Parts:
    """The black box, probed with the active version's tokenizer. Raises UpstreamError, UncorrectableUpstream."""
    if not settings.upstream_url:
        raise NotConfigured("No black box is configured: give --upstream-url (DELTASERVE_UPSTREAM_URL).")
    key = settings.upstream_key
    box = await connect(
        settings.upstream_url,
        tokenizer=registry.resolve(None).tokenizer,
        model=settings.upstream_model,
        key=key.get_secret_value() if key else None,
        dialect=settings.upstream_dialect,
        k=settings.upstream_k,
        timeouts=_timeouts(settings),
        prefix_cache=settings.upstream_prefix_cache,
        trust_draws=settings.trust_draws,
    )
    registry.served = settings.served_name or box.capabilities.model
    return Parts(box, registry, registry.served, box.problem)


def _dtype(settings: Settings) -> Literal["float32", "bfloat16", "float16"] | None:
    """As stored on accelerators; float32 on CPUs, where half precision is slower and only less exact."""
    if settings.dtype == "auto":
        return "float32" if settings.device == "cpu" else None
    return settings.dtype


def _refuse_other_ids(new: "Checkpoint", registry: "OffsetRegistry") -> None:
    """All loaded offsets share the tokenizer that the black box was, or will be, probed with. Raises BadCheckpoint."""
    for _, _, version in registry.cards():
        if differing := version.tokenizer.fingerprint.mismatch(new.tokenizer.fingerprint):
            raise BadCheckpoint(
                f"The tokenizer of {new.manifest.name!r} is not the one of the offsets that are loaded and of the "
                f"black box ({differing}); its ids would mean other tokens."
            )


def _report(registry: "OffsetRegistry", root: Path, path: str | None) -> None:
    """Says what the start came to, since a saved state wins over the settings."""
    log, active = logger(), registry.active
    log.info("offsets", active=active.name if active else None, loaded=[card[0] for card in registry.cards()])
    for row in registry.describe():
        if row["state"] == "failed":
            log.warning("offset not restored", offset=row["name"], reason=row["reason"])
    places = [(root / part.path).resolve() for part in active.spec.parts] if active else []
    if path is not None and active is not None and (root / path).resolve() not in places:
        log.warning("the saved state wins over the setting `offset`", offset=path, active=active.name)


def _watch(registry: "OffsetRegistry", root: Path, settings: Settings, stack: AsyncExitStack) -> None:
    from deltaserve.offset_models.registry.watch_folder import WatchFolder

    folder = WatchFolder(registry, root, logger(), settings.watch_interval_s)
    task = asyncio.create_task(folder.run())

    async def stop() -> None:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    stack.push_async_callback(stop)


def _timeouts(settings: Settings) -> Timeouts:
    return Timeouts(
        connect_s=settings.connect_timeout_s,
        first_token_s=settings.first_token_timeout_s,
        between_tokens_s=settings.between_tokens_timeout_s,
        total_s=settings.total_timeout_s,
    )


def _max_len(settings: Settings, checkpoint: Path) -> int:
    """What the operator says, else the positions of the base that the settings or the checkpoint name."""
    if settings.max_context is not None:
        return settings.max_context
    positions = [_positions(folder) for folder in (settings.base, *_models_of(checkpoint)) if folder is not None]
    return min([_LONGEST_CONTEXT, *filter(None, positions)])


def _models_of(checkpoint: Path) -> list[Path]:
    """Folders of the pair's models, as far as the checkpoint itself says where they are."""
    base = _json(checkpoint / "offset.json").get("base")
    path = base.get("path") if isinstance(base, dict) else None
    named = [checkpoint / path] if isinstance(path, str) and path else []
    return [checkpoint / "initial", checkpoint / "unlearned", *named]


def _positions(model: Path) -> int | None:
    found = _json(model / "config.json").get("max_position_embeddings")
    return found if type(found) is int and found > 0 else None


def _json(file: Path) -> dict[str, Any]:
    """An empty object where there is no readable file: whoever loads the checkpoint says what is wrong with it."""
    try:
        value = orjson.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


class OneBase(Mapping[str, Path]):
    """One folder under every name: which base it is, its digest says, and the checkpoint checks that."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __getitem__(self, name: str) -> Path:
        return self._folder

    def __contains__(self, name: object) -> bool:
        return True

    def __iter__(self) -> Iterator[str]:
        return iter((self._folder.name,))

    def __len__(self) -> int:
        return 1
