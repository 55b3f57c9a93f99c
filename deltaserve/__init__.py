"""Unlearning for a model you don't own: what other programs may import. All else may change from version to version.

`deltaserve.server`, `deltaserve.offset_models` and `deltaserve.client` are the folders beside this one.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deltaserve.client.admin import AdminClient, AsyncAdminClient
    from deltaserve.client.client import AsyncClient, Client
    from deltaserve.client.errors import ClientError
    from deltaserve.errors import DeltaserveError
    from deltaserve.offset_models.training.learning.objective import Objective

# A server starts without the client, and the client without torch: a name's module is imported with its first use.
_HOMES = {
    "AdminClient": "deltaserve.client.admin",
    "AsyncAdminClient": "deltaserve.client.admin",
    "AsyncClient": "deltaserve.client.client",
    "Client": "deltaserve.client.client",
    "ClientError": "deltaserve.client.errors",
    "DeltaserveError": "deltaserve.errors",
    "Objective": "deltaserve.offset_models.training.learning.objective",
}

__all__ = [
    "AdminClient",
    "AsyncAdminClient",
    "AsyncClient",
    "Client",
    "ClientError",
    "DeltaserveError",
    "Objective",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'deltaserve' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
