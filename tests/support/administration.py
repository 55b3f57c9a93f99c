"""A server whose offsets can be administered, over an engine that keeps books; no model is loaded."""

from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2 as httpx
from fastapi import FastAPI

from deltaserve.offset_models.registry.registry import Registry
from deltaserve.offset_models.registry.weights import WeightsPool
from deltaserve.server.app import Build, create_app
from deltaserve.server.serving.local_registry import LocalRegistry
from deltaserve.server.serving.ports import Backends
from deltaserve.server.settings import Settings
from tests.support.app import ScriptedBlackBox, serve
from tests.support.offsets import BookkeepingEngine

ADMIN_KEY = "admin-key-1"
API_KEY = "api-key-1"
SERVED = "toy"


@dataclass
class Administered:
    url: str
    root: Path
    engine: BookkeepingEngine
    client: httpx.Client  # with the admin key

    def call(self, method: str, path: str, /, **body: Any) -> httpx.Response:
        return self.client.request(method, f"/admin{path}", **({"json": body} if body else {}))

    def load(self, name: str, /, **body: Any) -> httpx.Response:
        return self.call("POST", "/offsets?wait=true", **{"name": name, "path": name, **body})

    def states(self) -> dict[str, str]:
        return {row["name"]: row["state"] for row in self.call("GET", "/offsets").json()["data"]}

    def fingerprints(self) -> dict[str, str]:
        """Of each served name."""
        cards = httpx.get(f"{self.url}/v1/models", headers=bearer(API_KEY)).json()["data"]
        return {card["id"]: card["system_fingerprint"] for card in cards}


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def administered_app(root: Path, engine: BookkeepingEngine, **settings: Any) -> FastAPI:
    """With the checkpoint `a` active; state beside the root."""

    async def registry(_: Settings, stack: AsyncExitStack) -> Any:
        made = Registry(WeightsPool(engine, root), root=root, served=SERVED, folder=root.parent / "state")
        stack.push_async_callback(made.close)
        await made.start("a")
        return LocalRegistry(made)

    async def upstream(_: Settings, made: Any) -> Backends:
        return Backends(ScriptedBlackBox(), made, SERVED)

    given = {"admin_key": ADMIN_KEY, "api_keys": API_KEY, **settings}
    return create_app(Settings(**given), build=Build(registry, upstream))


@contextmanager
def administered(root: Path, **settings: Any) -> Iterator[Administered]:
    """The same, over real HTTP."""
    engine = BookkeepingEngine()
    app = administered_app(root, engine, **settings)
    with serve(app) as (_, url), httpx.Client(base_url=url, headers=bearer(ADMIN_KEY), timeout=30) as client:
        yield Administered(url, root, engine, client)
