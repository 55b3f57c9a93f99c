"""What Ray imports: `import_path: deltaserve.server.ray_serve.deployment:app` of a Serve config."""

import ipaddress
import re
from collections.abc import Mapping
from typing import Any, Final

import ray.serve._private.replica
from fastapi import FastAPI
from ray import serve
from ray.util import get_node_ip_address

from deltaserve.server import preflight
from deltaserve.server.ray_serve.options import NAME, deployment_options, settings_of
from deltaserve.server.ray_serve.replica import RayReplica, prepare_process

_LONGEST_NAME: Final = 100


class Replica:
    """One process of the deployment: the proxy and its engine. Ray calls these methods, by these names."""

    async def __init__(self, arguments: Mapping[str, Any]) -> None:  # type: ignore[misc]
        """Raises NotConfigured, SettingsError, and what a start can be known to end with before a model is read."""
        context = serve.get_replica_context()
        settings = settings_of(arguments, replica_name(context.deployment, context.replica_tag))
        prepare_process(settings)
        if ipaddress.ip_address(get_node_ip_address()).is_loopback:
            _keep_on_loopback()
        await preflight.check(settings)
        self._replica = RayReplica(settings)

    def __serve_build_asgi_app__(self) -> FastAPI:
        return self._replica.app

    async def reconfigure(self, user_config: Any) -> None:
        self._replica.wish(user_config)

    async def check_health(self) -> None:
        await self._replica.require_sound()

    async def record_routing_stats(self) -> dict[str, bool]:
        return await self._replica.readiness()


def app(arguments: dict[str, Any]) -> serve.Application:
    """The application of a Serve config, whose `args` are settings. Raises NotConfigured, SettingsError."""
    options = deployment_options(settings_of(arguments))
    return serve.deployment(serve.ingress()(Replica), name=NAME, **options).bind(arguments)


def replica_name(deployment: str, tag: str) -> str:
    """In the fleet: another one for each replica that Ray ever starts."""
    name = re.sub(r"[^A-Za-z0-9._-]", "-", f"{deployment}-{tag}").lstrip("._-")
    return name[-_LONGEST_NAME:].lstrip("._-")


def _keep_on_loopback() -> None:
    """Ray 2.60 opens one port of each replica, for calls between deployments, on every interface, whatever the node's

    address is. On a node that is 127.0.0.1 it is opened there, as all others are; `make drill-ray` looks.
    """
    module = ray.serve._private.replica
    bind = module.add_port_to_grpc_server
    module.add_port_to_grpc_server = lambda server, address: bind(server, address.replace("[::]", "127.0.0.1"))
