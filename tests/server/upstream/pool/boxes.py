"""Probed boxes without a server behind them."""

import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from deltaserve.errors import UpstreamBusy, UpstreamError
from deltaserve.server.decoding.protocols import Block, DraftParams
from deltaserve.server.upstream.base import Capabilities
from deltaserve.server.upstream.cost import Cost
from deltaserve.server.upstream.http.throttle import Place, Rates, Throttle
from deltaserve.server.upstream.pool.member import Member
from deltaserve.server.upstream.pool.pool import Pool

PARAMS = DraftParams(0.0, 4)


@dataclass
class StubDraft:
    box: "StubBox"
    cost: Cost
    temperature: float | None = 0.0

    def arrived(self) -> list[Any]:
        return []


@dataclass
class StubBox:
    """Raises the next of `faults` at each call, where there is one; `broken` in the middle of it."""

    k: int = 5
    slots: int | None = None
    faults: list[UpstreamError | None] = field(default_factory=list)
    refuses_s: float | None = None  # says that it is busy, and for how long
    refusals: float = math.inf  # so many times
    trouble: str | None = None
    doubtful: bool = False
    throttle: Throttle = field(default_factory=lambda: Throttle(Rates(patience_s=5.0)))
    calls: int = 0
    closed: bool = False
    pinged: int = 0
    ping_fault: UpstreamError | None = None

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            "vllm", "stub", "stub", self.k, self.k, 300, 512, True, True, True, True, False, None, slots=self.slots
        )

    def problem(self) -> str | None:
        return self.trouble

    @asynccontextmanager
    async def draft(self, token_ids: Sequence[int], params: DraftParams) -> AsyncIterator[StubDraft]:
        place = await self.throttle.enter()
        try:
            self._called()
            self._refuse(place)
            yield StubDraft(self, Cost(1, len(token_ids), 3))
        finally:
            place.leave()

    def _refuse(self, place: Place) -> None:
        if self.refuses_s is None or self.refusals <= 0:
            place.taken()
            return
        self.refusals -= 1
        place.refused(self.refuses_s)
        raise UpstreamBusy("Later.", retry_after_s=self.refuses_s)

    async def block(self, token_ids: Sequence[int], drafted: Sequence[int], params: DraftParams) -> Block:
        self._called()
        return Block(0.0, [], read=7, drawn=2)

    def _called(self) -> None:
        self.calls += 1
        fault = self.faults.pop(0) if self.faults else None
        if fault is not None:
            raise fault

    async def ping(self) -> None:
        self.pinged += 1
        if self.ping_fault is not None:
            raise self.ping_fault

    async def aclose(self) -> None:
        self.closed = True


def pool_of(*boxes: StubBox, patience_s: float = 5.0) -> Pool:
    members: list[Any] = [Member(f"box{at}", box, box) for at, box in enumerate(boxes)]  # type: ignore[arg-type]
    return Pool(members, patience_s=patience_s)
