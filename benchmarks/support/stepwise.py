"""The loop that everybody writes first: one upstream call per token, corrected with the same pair."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.support.load import Answer, Measured
from benchmarks.support.local import LocalPair
from deltaserve.server.decoding.decoder import decode
from deltaserve.server.decoding.drafting.upstream import CallLength, UpstreamSource
from deltaserve.server.decoding.params import SamplingParams

GREEDY = SamplingParams(max_tokens=64, temperature=0.0)


async def stepwise(url: str, weights: Path, prompts: Sequence[list[int]], streams: int) -> Measured:
    """Greedy answers, at most `streams` at a time, in this process."""
    async with LocalPair.open(url, weights, "registry-erasure", streams=streams) as pair:
        waiting, answers = iter(prompts), list[Answer]()

        async def client() -> None:
            for prompt in waiting:
                answers.append(await _answer(pair, prompt))

        started = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(streams)))
        return Measured(answers, time.perf_counter() - started)


async def _answer(pair: LocalPair, prompt: list[int]) -> Answer:
    answer = Answer(time.perf_counter())
    async with pair.stream(prompt, GREEDY) as stream:
        async for step in decode(stream, UpstreamSource(pair.box, CallLength(1, fixed=True))):
            answer.ids.append(step.token_id)
            answer.arrivals.append(time.perf_counter())
    return answer
