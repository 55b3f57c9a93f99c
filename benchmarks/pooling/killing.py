"""A pool whose members are killed one after the other while clients stream answers that are known in advance."""

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from benchmarks.crashing.kills import uncorrected
from benchmarks.pooling.boxes import Box
from benchmarks.swap.streams import Ask, Crowd, Got, Known, torn, wrong

_BACK_WITHIN_S: Final = 60.0


@dataclass(slots=True)
class Seen:
    """Of one run."""

    kills: int = 0
    fewest: int = 99  # members that listened right after a kill
    back_s: list[float] = field(default_factory=list)
    answers: list[Got] = field(default_factory=list)

    def figures(self, known: Known) -> dict[str, float]:
        whole = [got for got in self.answers if got.whole]
        return {
            "kills": self.kills,
            "answers": len(self.answers),
            "tokens": sum(len(got.ids) for got in self.answers),
            "failed_answers": torn(self.answers),
            "repeated_or_skipped_tokens": uncorrected(self.answers, known),
            "whole_answers_that_differ": wrong(whole, known),
            "longest_gap_s": max((max(got.gaps, default=0.0) for got in whole), default=0.0),
            "fewest_members": self.fewest,
        }


async def kill_members(
    url: str, boxes: Sequence[Box], asks: Sequence[Ask], *, clients: int, seconds: float, every_s: float
) -> Seen:
    """Kills one member every so often; it is started again at once, at the same address."""
    chance, seen, starts = random.Random(1), Seen(), []
    began = time.monotonic()
    async with Crowd(url, asks, clients, seen.answers):
        while (at := (seen.kills + 1) * every_s) < seconds:
            await asyncio.sleep(began + at - time.monotonic())
            box = chance.choice(await _to_be_killed(boxes))
            await asyncio.to_thread(box.kill)
            seen.kills += 1
            seen.fewest = min(seen.fewest, sum(one.listens for one in boxes))
            box.start()
            starts.append(asyncio.create_task(_back(box, seen)))
        await asyncio.sleep(began + seconds - time.monotonic())
        await asyncio.gather(*starts)
    return seen


async def _back(box: Box, seen: Seen) -> None:
    killed_at = time.monotonic()
    await asyncio.to_thread(box.wait)
    seen.back_s.append(time.monotonic() - killed_at)


async def _to_be_killed(boxes: Sequence[Box]) -> list[Box]:
    """Those that listen, as soon as there are two: with none left no pool can answer. Raises TimeoutError."""
    async with asyncio.timeout(_BACK_WITHIN_S):
        while len(listening := [box for box in boxes if box.listens]) < 2:  # noqa: ASYNC110  (others' processes)
            await asyncio.sleep(0.05)
    return listening
