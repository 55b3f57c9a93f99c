"""A registry of toy checkpoints, and how tests wait for it."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deltaserve.offset_models.registry.registry import Registry
from deltaserve.offset_models.registry.weights import WeightsPool
from tests.support.offsets import BookkeepingEngine

SERVED = "toy"


def make(root: Path, engine: BookkeepingEngine, **more: Any) -> Registry:
    more = {"folder": root.parent / "state", "target": {"tail": "impute"}} | more
    return Registry(WeightsPool(engine, root), root=root, served=SERVED, **more)


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not true():  # noqa: ASYNC110  (what is waited for has no event)
            await asyncio.sleep(0.005)


def states(registry: Registry) -> dict[str, str]:
    return {row["name"]: row["state"] for row in registry.describe()}
