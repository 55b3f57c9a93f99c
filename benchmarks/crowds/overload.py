"""More clients than there is room for: what goes through, how soon the rest is refused, and who waits for whom."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import httpx2 as httpx
import orjson

from benchmarks.support.processes import Running
from benchmarks.support.report import quantile

_DISPLACED: Final = b"go first"  # of the sentence that a request gets whose room another key's newcomer took
_PAUSE_S: Final = 0.2  # of a client that was refused: Retry-After says 1 s, these are rude


@dataclass(slots=True)
class Served:
    """What one key's clients got."""

    tokens: int = 0
    answers: int = 0
    others: int = 0  # neither answered nor refused
    first_s: list[float] = field(default_factory=list)
    refused_s: list[float] = field(default_factory=list)  # how long each refusal took of one that found no room
    displaced_s: list[float] = field(default_factory=list)  # how long one had waited whose room went to another key
    without_time: int = 0  # refusals of either kind without Retry-After

    def row(self, seconds: float) -> dict[str, Any]:
        return {
            "answers": self.answers,
            "tokens_per_second": self.tokens / seconds,
            "first_token_s_p50": quantile(self.first_s, 0.5),
            "refusals": len(self.refused_s),
            "refusal_ms_p50": 1e3 * quantile(self.refused_s, 0.5),
            "refusal_ms_p99": 1e3 * quantile(self.refused_s, 0.99),
            "displaced": len(self.displaced_s),
            "displaced_ms_p50": 1e3 * quantile(self.displaced_s, 0.5),
            "refusals_without_retry_after": self.without_time,
            "others": self.others,
        }


async def crowd(
    running: Running, prompts: Sequence[Sequence[int]], clients: dict[str, int], seconds: float, tokens: int
) -> dict[str, dict[str, Any]]:
    """So many clients of each key ask, one request after the other, for so many seconds.

    `live`: how long /health/live took meanwhile, which nothing but the machine holds up.
    """
    served, live_s = {key: Served() for key in clients}, list[float]()
    until = time.monotonic() + seconds
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(base_url=running.url, timeout=120, limits=limits, trust_env=False) as client:

        async def ask(key: str, number: int) -> None:
            prompt = list(prompts[number % len(prompts)])
            while time.monotonic() < until:
                await _once(client, key, prompt, tokens, served[key])

        async def look() -> None:
            while time.monotonic() < until:
                began = time.monotonic()
                await client.get("/health/live")
                live_s.append(time.monotonic() - began)
                await asyncio.sleep(_PAUSE_S)

        await asyncio.gather(look(), *(ask(key, number) for key, count in clients.items() for number in range(count)))
    rows = {key: one.row(seconds) for key, one in served.items()}
    return {**rows, "live": {"ms_p50": 1e3 * quantile(live_s, 0.5), "ms_p99": 1e3 * quantile(live_s, 0.99)}}


async def _once(client: httpx.AsyncClient, key: str, prompt: list[int], tokens: int, served: Served) -> None:
    body = {"prompt": prompt, "max_tokens": tokens, "ignore_eos": True, "stream": True, "return_token_ids": True}
    began = time.monotonic()
    async with client.stream("POST", "/v1/completions", json=body, headers={"x-api-key": key}) as answer:
        if answer.status_code == 429:
            displaced = _DISPLACED in await answer.aread()
            (served.displaced_s if displaced else served.refused_s).append(time.monotonic() - began)
            served.without_time += "retry-after" not in answer.headers
        elif answer.status_code == 200:
            await _read(answer, began, served)
            return
        else:
            served.others += 1
    await asyncio.sleep(_PAUSE_S)


async def _read(answer: httpx.Response, began: float, served: Served) -> None:
    seen, text = 0, b""
    async for piece in answer.aiter_bytes():
        if not seen:
            served.first_s.append(time.monotonic() - began)
        text += piece
        seen += 1
    frames = [frame.removeprefix(b"data: ") for frame in text.split(b"\n\n") if frame]
    whole = bool(frames) and frames[-1] == b"[DONE]"
    served.answers += whole
    served.others += not whole
    served.tokens += sum(
        len(choice.get("token_ids") or []) for frame in frames[:-1] for choice in orjson.loads(frame)["choices"]
    )
