"""The settings as Ray Serve's arguments, and what Ray must know of them. Imports no Ray."""

from collections.abc import Mapping
from typing import Any, Final

from deltaserve.errors import NotConfigured
from deltaserve.server.settings import Settings, load_settings, secret_settings

NAME: Final = "deltaserve"  # of the deployment: what a Serve config says of it stands under this name
ROUTER: Final = "deltaserve.server.ray_serve.routing.ReadyFirst"
_QUICK: Final = 16  # requests beyond those that generate or wait: health, metrics, commands, refusals
_SPARE_S: Final = 10.0  # from the end of a drain to the kill: the replica leaves its fleet
_LOOKS_S: Final = 0.5  # between two looks at what still runs
_HEALTH_S, _HEALTH_TIMEOUT_S = 5.0, 30.0
_READY_S: Final = 1.0  # how soon it is known that a replica is fenced

# What Ray does in deltaserve's place → what to do instead.
_RAYS: Final = {
    "host": "Ray's proxy listens: set http_options.host of the Serve config",
    "port": "Ray's proxy listens: set http_options.port of the Serve config",
    "admin_host": "the admin routes are among the others, behind Ray's proxy",
    "admin_port": "the admin routes are among the others, behind Ray's proxy",
    "workers": "Ray's replicas are the processes: set num_replicas or autoscaling_config of the Serve config",
    "fleet_replica": "each replica is named after Ray's own name for it",
}


def settings_of(arguments: Mapping[str, Any], replica: str | None = None) -> Settings:
    """Settings from a Serve config's `args`, then from the environment. Raises NotConfigured, SettingsError.

    `replica`: the name of the one that reads them.
    """
    for name in arguments:
        if name in _RAYS:
            raise NotConfigured(f"`{name}` is not for `args` under Ray Serve: {_RAYS[name]}.")
        if name in secret_settings():
            raise NotConfigured(
                f"`{name}` is not for `args`, which Ray shows to whoever may look at it: write it into a file, whose "
                f"name is DELTASERVE_{name.upper()}_FILE in runtime_env's env_vars."
            )
    # The environment may be a container's that also serves without Ray: where to listen is no matter of a replica.
    settings = load_settings(**arguments, workers="0", fleet_replica=replica)
    if settings.fleet_store is None:
        raise NotConfigured(
            "Under Ray Serve each replica is one of a fleet: set `fleet_store` to file or redis://HOST:PORT/DB."
        )
    if settings.most_streams is None:
        raise NotConfigured("Ray must know how much one replica takes: set `max_streams` to a number.")
    if settings.admin_port is not None:
        raise NotConfigured(f"DELTASERVE_ADMIN_PORT must not be set under Ray Serve: {_RAYS['admin_port']}.")
    return settings


def deployment_options(settings: Settings) -> dict[str, Any]:
    """Options of a Ray Serve deployment that follow from the settings; a Serve config may give others beside them.

    A request that waits for its turn waits in the replica, which knows whose turn it is (`admission/turns`).
    """
    taken = (settings.most_streams or 1) + settings.max_queue
    return {
        "max_ongoing_requests": taken + _QUICK,
        "max_queued_requests": max(settings.max_queue, 1),
        "backpressure_config": {"status_code": 503, "retry_after_s": settings.retry_after_s},
        "graceful_shutdown_timeout_s": settings.drain_timeout_s + _SPARE_S,
        "graceful_shutdown_wait_loop_s": _LOOKS_S,
        "health_check_period_s": _HEALTH_S,
        "health_check_timeout_s": _HEALTH_TIMEOUT_S,
        "request_router_config": {"request_router_class": ROUTER, "request_routing_stats_period_s": _READY_S},
    }
