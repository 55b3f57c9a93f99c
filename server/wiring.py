"""Opens what the settings name: the registry of offset versions, and the probed black box."""

from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Final

from deltaserve.errors import NotConfigured
from deltaserve.server.observability.logs import logger
from deltaserve.server.opening import open_engine, report, watch
from deltaserve.server.preflight import place, state_folder
from deltaserve.server.serving.local_registry import LocalRegistry
from deltaserve.server.serving.ports import Backends, Registry
from deltaserve.server.settings import Settings
from deltaserve.server.upstream.base import TokenizerView
from deltaserve.server.upstream.http.throttle import Rates, Throttle
from deltaserve.server.upstream.http.transport import Limits, Timeouts
from deltaserve.server.upstream.pool.joining import Applicant, PoolLimits, open_pool
from deltaserve.server.upstream.probing.connect import Prober
from deltaserve.server.upstream_settings import UpstreamSettings

if TYPE_CHECKING:
    from deltaserve.offset_models.registry.registry import Registry as OffsetRegistry

# Of Python's threads: the event loop, the engine and a load each run in one. At Python's own 5 ms every turn of the
# loop may wait that long for each of its system calls while a model is read, and loop and engine for each other.
SWITCH_INTERVAL_S: Final = 0.0005
NAMES_NOTHING: Final = "named_ids is set, but no ids can be asked for by name here: the tail is imputed as without it."


async def open_here(settings: Settings, stack: AsyncExitStack) -> LocalRegistry:
    """The registry, for requests and operators of this process: by itself, or as one replica of a fleet."""
    if settings.fleet_store is not None:
        from deltaserve.server.replicating import open_replica

        return await open_replica(settings, stack)
    return LocalRegistry(await open_registry(settings, stack))


async def open_registry(settings: Settings, stack: AsyncExitStack) -> "OffsetRegistry":
    """The engine and the versions it serves, restored or loaded. Raises BadCheckpoint. Imports torch."""
    from deltaserve.offset_models.files.locks import locked

    if (folder := state_folder(settings)) is not None:
        stack.enter_context(locked(folder))
    registry = await open_engine(settings, stack, folder=folder)
    root, path = place(settings)
    await registry.start(path, settings.strength)
    report(registry, root, path)
    if settings.watch_offsets:
        watch(registry, root, settings, stack)
    return registry


async def connect_upstream(settings: Settings, registry: Registry) -> Backends:
    """The black boxes, probed with the active version's tokenizer. Raises UpstreamError, UncorrectableUpstream."""
    if not settings.upstream_url:
        raise NotConfigured("No black box is configured: give --upstream-url (DELTASERVE_UPSTREAM_URL).")
    async with registry.pinned(None) as version:
        tokenizer = version.tokenizer
    applicants = [_applicant(settings, upstream, tokenizer) for upstream in settings.upstreams]
    limits = PoolLimits(
        settings.upstream_patience_s,
        settings.local_draft_scored_prompt,
        join_every_s=settings.connect_timeout_s,
        names_ids=settings.policy.naming is not None,
    )
    pool = await open_pool(applicants, limits)
    if settings.policy.naming is not None and not pool.capabilities.named_ids:
        logger().warning("ids_are_not_named", setting=settings.named_ids, why=NAMES_NOTHING)
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


def _timeouts(settings: Settings) -> Timeouts:
    return Timeouts(
        connect_s=settings.connect_timeout_s,
        first_token_s=settings.first_token_timeout_s,
        between_tokens_s=settings.between_tokens_timeout_s,
        total_s=settings.total_timeout_s,
    )
