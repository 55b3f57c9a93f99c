"""Opens what the settings name: the registry of offset versions, and the probed black box."""

import asyncio
import gc
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from deltaserve.errors import NotConfigured
from deltaserve.server.preflight import place, state_folder
from deltaserve.server.serving.local_registry import LocalRegistry
from deltaserve.server.serving.ports import Backends, Registry
from deltaserve.server.serving.versions import default_dtype, json_object, longest_context, open_versions
from deltaserve.server.settings import Settings
from deltaserve.server.telemetry import logger
from deltaserve.server.upstream.base import TokenizerView
from deltaserve.server.upstream.http.throttle import Rates, Throttle
from deltaserve.server.upstream.http.transport import Limits, Timeouts
from deltaserve.server.upstream.pool.joining import Applicant, PoolLimits, open_pool
from deltaserve.server.upstream.probing.connect import Prober
from deltaserve.server.upstream_settings import UpstreamSettings

if TYPE_CHECKING:
    from deltaserve.offset_models.engine.settings import EngineSettings
    from deltaserve.offset_models.registry.registry import Registry as OffsetRegistry

# Of Python's threads: the event loop, the engine and a load each run in one. At Python's own 5 ms every turn of the
# loop may wait that long for each of its system calls while a model is read, and loop and engine for each other.
SWITCH_INTERVAL_S: Final = 0.0005


async def open_here(settings: Settings, stack: AsyncExitStack) -> LocalRegistry:
    """`open_registry`, for requests and operators of this process."""
    return LocalRegistry(await open_registry(settings, stack))


async def open_registry(settings: Settings, stack: AsyncExitStack) -> "OffsetRegistry":
    """The engine and the versions it serves, restored or loaded. Raises BadCheckpoint. Imports torch."""
    from deltaserve.offset_models.files.locks import locked

    root, path = place(settings)
    if (folder := state_folder(settings)) is not None:
        stack.enter_context(locked(folder))
    engine_settings = _engine_settings(settings, root, path)
    versions = open_versions(
        engine_settings,
        root,
        base=settings.base,
        served=settings.served_name or settings.upstream_model or "",
        folder=folder,
        target={"tail": settings.tail, "k": settings.upstream_k},
    )
    registry = await stack.enter_async_context(versions)
    # What was imported stays: a collection, which stops every thread, then only looks at the models (0.25 s otherwise).
    gc.collect()
    gc.freeze()
    await registry.start(path, settings.strength)
    _report(registry, root, path)
    if settings.watch_offsets:
        _watch(registry, root, settings, stack)
    return registry


async def connect_upstream(settings: Settings, registry: Registry) -> Backends:
    """The black boxes, probed with the active version's tokenizer. Raises UpstreamError, UncorrectableUpstream."""
    if not settings.upstream_url:
        raise NotConfigured("No black box is configured: give --upstream-url (DELTASERVE_UPSTREAM_URL).")
    async with registry.pinned(None) as version:
        tokenizer = version.tokenizer
    applicants = [_applicant(settings, upstream, tokenizer) for upstream in settings.upstreams]
    limits = PoolLimits(
        settings.upstream_patience_s, settings.local_draft_scored_prompt, join_every_s=settings.connect_timeout_s
    )
    pool = await open_pool(applicants, limits)
    served = settings.served_name or pool.capabilities.model
    try:
        await registry.serve_as(served)
    except BaseException:
        await pool.aclose()
        raise
    return Backends(pool, registry, served)


def _applicant(settings: Settings, upstream: UpstreamSettings, tokenizer: TokenizerView) -> Applicant:
    """One of the black boxes. A call that fails is repeated by the pool, at another one, where there are several."""
    rates = Rates(
        upstream.calls_at_once,
        upstream.calls_per_minute,
        upstream.tokens_per_minute,
        patience_s=settings.upstream_patience_s,
    )
    prober = Prober(
        url=upstream.url,
        tokenizer=tokenizer,
        key=upstream.key,
        dialect=settings.upstream_dialect,
        k=settings.upstream_k,
        timeouts=_timeouts(settings),
        limits=Limits(attempts=1) if len(settings.upstreams) > 1 else None,
        cache_salt=None,
        prefix_cache=settings.upstream_prefix_cache,
        trust_draws=settings.trust_draws,
        provider=settings.upstream_provider,
        throttle=Throttle(rates),
    )
    return Applicant(upstream.name, partial(prober.connected, settings.upstream_model))


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
    return longest_context(*filter(None, [settings.base]), *_models_of(checkpoint))


def _models_of(checkpoint: Path) -> list[Path]:
    """Folders of the pair's models, as far as the checkpoint itself says where they are."""
    manifest = json_object(checkpoint / "offset.json") or {}  # who loads the checkpoint says what is wrong with it
    base = manifest.get("base")
    path = base.get("path") if isinstance(base, dict) else None
    named = [checkpoint / path] if isinstance(path, str) and path else []
    return [checkpoint / "initial", checkpoint / "unlearned", *named]
