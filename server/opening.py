"""Opens the engine that the settings describe, and a registry over it; says what the start came to."""

import asyncio
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from deltaserve.server.garbage import keep_what_is_there
from deltaserve.server.observability.logs import logger
from deltaserve.server.preflight import place
from deltaserve.server.serving.versions import default_dtype, json_object, longest_context, open_versions
from deltaserve.server.settings import Settings

if TYPE_CHECKING:
    from deltaserve.offset_models.engine.settings import EngineSettings
    from deltaserve.offset_models.registry.journal import Writes
    from deltaserve.offset_models.registry.registry import Registry as OffsetRegistry
    from deltaserve.offset_models.registry.watch_folder import Loader


async def open_engine(
    settings: Settings, stack: AsyncExitStack, *, folder: Path | None = None, writes: "Writes | None" = None
) -> "OffsetRegistry":
    """The engine and a registry that has no versions yet. Imports torch."""
    root, path = place(settings)
    engine_settings = _engine_settings(settings, root, path)
    versions = open_versions(
        engine_settings,
        root,
        base=settings.base,
        served=settings.served_name or settings.upstream_model or "",
        folder=folder,
        writes=writes,
        target={"tail": settings.tail, "k": settings.upstream_k},
        tokenizer=settings.upstream_tokenizer,
    )
    registry = await stack.enter_async_context(versions)
    keep_what_is_there()
    return registry


def _engine_settings(settings: Settings, root: Path, path: str | None) -> "EngineSettings":
    """With the device that there is, and the streams that it allows. Raises BadRequest for one that there is not."""
    from deltaserve.offset_models.engine.devices.capacity import Capacity, capacity
    from deltaserve.offset_models.engine.devices.finding import found_device
    from deltaserve.offset_models.engine.settings import EngineSettings

    checkpoint, device = root / (path or ""), found_device(settings.device)
    dtype, max_len = (
        default_dtype(device) if settings.dtype == "auto" else settings.dtype,
        _max_len(settings, checkpoint),
    )
    room = Capacity(settings.most_streams or 0, "as set")
    if settings.most_streams is None:
        room = capacity(_pair_of(settings, checkpoint), device=device, dtype=dtype, max_len=max_len)
    logger().info("engine", device=device, dtype=dtype or "as stored", max_streams=room.streams, why=room.why)
    return EngineSettings(
        max_streams=room.streams,
        max_len=max_len,
        max_waiting=settings.max_queue,
        retry_after_s=settings.retry_after_s,
        threads=settings.torch_threads,
        device=device,
        dtype=dtype,
    )


def _pair_of(settings: Settings, checkpoint: Path) -> list[Path]:
    """Folders of what the checkpoint's pair runs on: one base, or two models; none where it does not say."""
    initial, unlearned, *named = _models_of(checkpoint)
    if (checkpoint / "offset.json").is_file() and initial.is_dir():
        return [initial, unlearned]
    return [*named, *filter(None, [settings.base])][:1]


def report(registry: "OffsetRegistry", root: Path, path: str | None) -> None:
    """Says what the start came to, since a saved state wins over the settings."""
    log, active = logger(), registry.active
    log.info("offsets", active=active.name if active else None, loaded=[card[0] for card in registry.cards()])
    for row in registry.describe():
        if row["state"] == "failed":
            log.warning("offset not restored", offset=row["name"], reason=row["reason"])
    places = [(root / part.path).resolve() for part in active.spec.parts] if active else []
    if path is not None and active is not None and (root / path).resolve() not in places:
        log.warning("the saved state wins over the setting `offset`", offset=path, active=active.name)


def watch(registry: "Loader", root: Path, settings: Settings, stack: AsyncExitStack) -> None:
    from deltaserve.offset_models.registry.watch_folder import WatchFolder

    folder = WatchFolder(registry, root, logger(), settings.watch_interval_s)
    task = asyncio.create_task(folder.run())

    async def stop() -> None:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    stack.push_async_callback(stop)


def _max_len(settings: Settings, checkpoint: Path) -> int:
    """What the operator says, else the positions of the base that the settings or the checkpoint name."""
    if settings.max_context is not None:
        return settings.max_context
    return longest_context(*filter(None, [settings.base]), *_models_of(checkpoint))


def _models_of(checkpoint: Path) -> list[Path]:
    """Folders of the pair's models, as far as the checkpoint itself says where they are."""
    manifest = json_object(checkpoint / "offset.json") or {}  # who loads the checkpoint says what is wrong with it
    base = manifest.get("base")
    path = base.get("path") if isinstance(base, dict) else None
    named = [checkpoint / path] if isinstance(path, str) and path else []
    return [checkpoint / "initial", checkpoint / "unlearned", *named]
