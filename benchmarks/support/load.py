"""A bounded load of streamed completions, timed token by token. Loopback only."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from benchmarks.support.report import quantile
from deltaserve.server.upstream.http.transport import Transport


@dataclass(slots=True)
class Answer:
    """When the request left, and when each of its tokens came."""

    started: float
    arrivals: list[float] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        return self.arrivals[-1] - self.started


@dataclass(frozen=True, slots=True)
class Measured:
    """One load, all streams together."""

    answers: list[Answer]
    wall_s: float

    @property
    def tokens(self) -> int:
        return sum(len(answer.ids) for answer in self.answers)

    @property
    def per_second(self) -> float:
        """Tokens a second of all streams."""
        return self.tokens / self.wall_s

    @property
    def per_stream(self) -> float:
        """Tokens a second that one client sees."""
        return self.tokens / sum(answer.seconds for answer in self.answers)

    def first_ms(self, share: float = 0.5) -> float:
        return 1e3 * quantile([answer.arrivals[0] - answer.started for answer in self.answers], share)

    def between_ms(self, share: float) -> float:
        gaps = [b - a for answer in self.answers for a, b in zip(answer.arrivals, answer.arrivals[1:], strict=False)]
        return 1e3 * quantile(gaps, share)


async def run(url: str, model: str, prompts: Sequence[list[int]], streams: int, **sampling: Any) -> Measured:
    """Every prompt once, at most `streams` at a time."""
    transport = Transport(url)
    waiting = iter(prompts)
    answers: list[Answer] = []

    async def client() -> None:
        for prompt in waiting:
            answers.append(await _ask(transport, model, prompt, sampling))

    started = time.perf_counter()
    try:
        await asyncio.gather(*(client() for _ in range(streams)))
    finally:
        wall_s = time.perf_counter() - started
        await transport.aclose()
    return Measured(answers, wall_s)


async def _ask(transport: Transport, model: str, prompt: list[int], sampling: dict[str, Any]) -> Answer:
    body = {"model": model, "prompt": prompt, "stream": True, "return_token_ids": True, "max_tokens": 64} | sampling
    answer = Answer(time.perf_counter())
    async with transport.stream("/v1/completions", body) as events:
        while await events.wait():
            now = time.perf_counter()
            while events.arrived:
                payload = events.arrived.popleft()
                if payload == b"[DONE]":
                    events.finish()
                    continue
                for choice in orjson.loads(payload)["choices"]:
                    ids = choice.get("token_ids") or []
                    answer.ids += ids
                    answer.arrivals += [now] * len(ids)
    return answer
