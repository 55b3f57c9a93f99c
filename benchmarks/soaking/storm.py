"""Faults of the embedded black box, one call in so many, for as long as it is told to go on."""

import asyncio
import random
from dataclasses import dataclass, field
from typing import Any, Final

import httpx2 as httpx

AHEAD: Final = 400  # calls that the plan reaches ahead of those that were made
_EVERY_S: Final = 0.25
_LATEST: Final = 8  # tokens before a fault; most calls are not longer
# Of a hundred faults. A call with one of the first is asked again, and its answer goes on. Nothing can be made of a
# list that is wrong: its answer ends with an error. Busy ones are few, for each makes the server pause all its calls.
MENDED: Final = {
    "disconnect": 22, "end": 22, "error": 18, "truncate": 17, "stall": 5, "status:500": 5, "status:503": 1,
    "status:429": 1, "status:429/1": 1,
}  # fmt: skip
DAMAGING: Final = {"nan": 2, "positive": 1, "unsorted": 1, "repeated": 1, "range": 1, "heavy": 1, "empty": 1}
_KINDS: Final = {**MENDED, **DAMAGING}


@dataclass(slots=True)
class Storm:
    """Which call is hit by what is decided by `seed`; the black box counts its calls."""

    url: str
    share: float  # of all calls
    seed: int = 1
    armed: int = 0
    left: int = 0  # armed and not met by a call when it was over
    _stop: asyncio.Event = field(default_factory=asyncio.Event)
    _task: "asyncio.Task[None] | None" = None

    async def __aenter__(self) -> "Storm":
        self._task = asyncio.create_task(self._blow())
        return self

    async def __aexit__(self, *_: object) -> None:
        """No fault is armed any more."""
        self._stop.set()
        if self._task is not None:
            await self._task

    @property
    def met(self) -> int:
        """Faults that hit a call."""
        return self.armed - self.left

    async def _blow(self) -> None:
        chance = random.Random(self.seed)
        async with httpx.AsyncClient(base_url=self.url, timeout=60, trust_env=False) as client:
            while not self._stop.is_set():
                await self._fill(client, chance)
                await asyncio.sleep(_EVERY_S)
            self.left = len(await _plan(client))
            await client.delete("/faults")

    async def _fill(self, client: httpx.AsyncClient, chance: random.Random) -> None:
        reach = max((one["after"] for one in await _plan(client)), default=0)
        while reach < AHEAD:
            reach += 1 + int(chance.expovariate(self.share))
            answer = await client.post("/faults", json={"fault": drawn(chance), "after": reach})
            answer.raise_for_status()
            self.armed += 1


def drawn(chance: random.Random) -> str:
    """One fault, as the black box takes it."""
    (kind,) = chance.choices(list(_KINDS), list(_KINDS.values()))
    return kind if ":" in kind else f"{kind}:{chance.randrange(_LATEST)}"


async def _plan(client: httpx.AsyncClient) -> list[dict[str, Any]]:
    armed: list[dict[str, Any]] = (await client.get("/faults")).json()["armed"]
    return armed
