"""Streams whose every token is known beforehand: seeded, on a version decoded alone."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import orjson

from benchmarks.swap.server import SERVED
from deltaserve.errors import DeltaserveError
from deltaserve.server.upstream.http.transport import Limits, Transport


@dataclass(frozen=True, slots=True)
class Ask:
    """One request; equal asks of one version have equal answers."""

    prompt: tuple[int, ...]
    seed: int
    tokens: int
    temperature: float = 0.3

    def body(self, model: str) -> dict[str, object]:
        return {
            "model": model,
            "prompt": list(self.prompt),
            "seed": self.seed,
            "temperature": self.temperature,
            "max_tokens": self.tokens,
            "ignore_eos": True,
            "stream": True,
            "return_token_ids": True,
        }


@dataclass(slots=True)
class Got:
    """What came of it."""

    ask: Ask
    began: float = field(default_factory=time.perf_counter)
    ids: list[int] = field(default_factory=list)
    arrivals: list[float] = field(default_factory=list)  # of each token, seconds
    fingerprints: set[str] = field(default_factory=set)
    whole: bool = False  # finish reason and [DONE] came
    fault: str | None = None  # the error that came instead

    @property
    def gaps(self) -> list[float]:
        return [b - a for a, b in zip(self.arrivals, self.arrivals[1:], strict=False)]


_PAUSE_S = 0.1  # of a client whose answer was torn: a server that comes back needs the cores
Known = Mapping[tuple[str, Ask], Sequence[int]]  # (fingerprint, ask) → ids


def asks(prompts: Sequence[Sequence[int]], seeds: int, tokens: int, temperature: float = 0.3) -> list[Ask]:
    return [Ask(tuple(prompt), seed, tokens, temperature) for prompt in prompts for seed in range(1, seeds + 1)]


async def stream(transport: Transport, ask: Ask, model: str = SERVED) -> Got:
    """One stream; one that fails or is torn comes back as not whole."""
    got, finished = Got(ask), False
    try:
        async with transport.stream("/v1/completions", ask.body(model)) as events:
            while await events.wait():
                now = time.perf_counter()
                while events.arrived:
                    payload = events.arrived.popleft()
                    if payload == b"[DONE]":
                        got.whole = finished
                        events.finish()
                    else:
                        finished = _take(got, orjson.loads(payload), now) or finished
    except DeltaserveError as error:
        got.whole, got.fault = False, error.message
    return got


async def decoded_alone(url: str, wanted: Sequence[Ask], models: Sequence[str]) -> dict[tuple[str, Ask], Sequence[int]]:
    """Every ask on every model, one at a time, under the fingerprint that answered."""
    known: dict[tuple[str, Ask], Sequence[int]] = {}
    transport = _transport(url)
    try:
        for model in models:
            for ask in wanted:
                got = await stream(transport, ask, model)
                if not got.whole or len(got.fingerprints) != 1:
                    raise RuntimeError(f"{model} does not answer")
                known[got.fingerprints.pop(), ask] = got.ids
    finally:
        await transport.aclose()
    return known


@dataclass(slots=True)
class Crowd:
    """Clients that ask one after the other until told to stop."""

    url: str
    asks: Sequence[Ask]
    clients: int
    answers: list[Got] = field(default_factory=list)
    _stop: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: list["asyncio.Task[None]"] = field(default_factory=list)

    async def __aenter__(self) -> "Crowd":
        self._tasks = [asyncio.create_task(self._client(number)) for number in range(self.clients)]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Lets running streams end."""
        self._stop.set()
        await asyncio.gather(*self._tasks)

    async def _client(self, number: int) -> None:
        transport = _transport(self.url)
        try:
            while not self._stop.is_set():
                self.answers.append(await stream(transport, self.asks[number % len(self.asks)]))
                if not self.answers[-1].whole:
                    await asyncio.sleep(_PAUSE_S)
                number += self.clients + 1
        finally:
            await transport.aclose()


def torn(answers: Sequence[Got]) -> int:
    return sum(not got.whole for got in answers)


def wrong(answers: Sequence[Got], known: Known) -> int:
    """Whole streams that are not, token for token, what their one version says alone."""
    return sum(got.whole and not _as_known(got, known) for got in answers)


def _as_known(got: Got, known: Known) -> bool:
    if len(got.fingerprints) != 1:
        return False
    (fingerprint,) = got.fingerprints
    return known.get((fingerprint, got.ask)) == got.ids


def _transport(url: str) -> Transport:
    return Transport(url, limits=Limits(attempts=1))  # a failed stream is not to be hidden by a second one


def _take(got: Got, chunk: dict[str, object], now: float) -> bool:
    """Whether this was the choice's last chunk. An error has no choices: the stream ends without its last one."""
    if "choices" not in chunk:
        got.fault = str(chunk.get("error"))
        return False
    choices = chunk["choices"]
    finished = False
    for choice in choices if isinstance(choices, list) else ():
        ids = choice.get("token_ids") or []
        got.ids += ids
        got.arrivals += [now] * len(ids)
        finished = finished or choice.get("finish_reason") is not None
    got.fingerprints.add(str(chunk["system_fingerprint"]))
    return finished
