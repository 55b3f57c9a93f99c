"""From the setting `fleet_store` to the store."""

from pathlib import Path
from typing import Final

from deltaserve.server.fleet.stores.ports import Store

FOLDER: Final = "file"  # the state folder, on a volume that all replicas share


def open_store(named: str, folder: Path | None, prefix: str, password: str | None) -> Store:
    """Nothing is asked of it yet. Raises NotConfigured, StoreUnreachable."""
    if named == FOLDER:
        from deltaserve.errors import NotConfigured
        from deltaserve.server.fleet.stores.shared_folder import SharedFolder

        if folder is None:
            raise NotConfigured("fleet_store=file needs a folder that all replicas share: set state_folder.")
        return SharedFolder(folder)
    from deltaserve.server.fleet.stores.redis_store import RedisStore

    return RedisStore(named, prefix, password)
