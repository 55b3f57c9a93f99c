"""Takes a finished checkpoint to a running server."""

import os

from deltaserve.client.address import ADMIN_KEY_VARIABLE, resolve
from deltaserve.client.admin import AdminClient
from deltaserve.client.console.terminal import Status, Stop


def admin_at(url: str | None, key: str | None) -> AdminClient:
    """Checked before anything is trained: a missing key must not be noticed only at the end. Raises Stop."""
    address = resolve(url, key, os.environ, ADMIN_KEY_VARIABLE)
    if address.key is None:
        raise Stop(f"Give the server's admin key: --admin-key, or {ADMIN_KEY_VARIABLE}.", Status.USAGE)
    return AdminClient.at(address)


def activate(admin: AdminClient, name: str) -> str:
    """Loads and activates the offset; gives the fingerprint of the active one. Raises ClientError."""
    with admin:
        admin.load(name, name)
        active = admin.activate(name).active
    return active.fingerprint or active.name
