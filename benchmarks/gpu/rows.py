"""Rows a second through the engine's sessions: every stream asks for its next token as soon as it has the last."""

import asyncio
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from benchmarks.gpu.record import Record
from benchmarks.gpu.setup import Setup
from deltaserve.offset_models.engine.engine import Engine
from deltaserve.offset_models.engine.pair import PairHandle
from deltaserve.offset_models.engine.session import Session
from deltaserve.offset_models.engine.settings import EngineSettings
from deltaserve.server.decoding.deciding.corrector import AnswerSpec, Corrector
from deltaserve.server.decoding.params import SamplingParams
from deltaserve.server.decoding.protocols import Proposal
from deltaserve.server.wiring import SWITCH_INTERVAL_S

PROMPT: Final = 64
MAX_LEN: Final = 1024
ROUNDS: Final = 3
STEPS: Final = {1: 150, 16: 80, 64: 50}  # of each stream in a round
TINY_STEPS: Final = 10
PART: Final = "rows"


@dataclass(frozen=True, slots=True)
class Mode:
    """What is asked for with each row."""

    name: str
    figure: str | None = None  # followed by the number of streams
    params: SamplingParams | None = None  # None: rows alone, nothing is decided
    run: int = 1  # proposals at a time; more: the black box is ahead


NO_END: Final = 10**6
GREEDY: Final = SamplingParams(max_tokens=NO_END, temperature=0.0)
MODES: Final = [
    Mode("none"),
    Mode("greedy", "gpu_rows", GREEDY),
    Mode("T=1, top_p .95", "gpu_rows_t1", SamplingParams(max_tokens=NO_END, temperature=1.0, top_p=0.95)),
    Mode("greedy, runs of 8", None, GREEDY, run=8),
]


def rows(setup: Setup, record: Record) -> None:
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_INTERVAL_S)  # as the server does
    try:
        asyncio.run(_rows(setup, record))
    finally:
        sys.setswitchinterval(before)


async def _rows(setup: Setup, record: Record) -> None:
    settings = EngineSettings(
        max_streams=setup.streams[-1],
        max_len=MAX_LEN,
        device=setup.device,
        dtype=setup.dtype,
        batch_decisions=True,  # as on a device
    )
    engine = Engine(settings)
    engine.start()
    try:
        began = time.monotonic()
        handle = await engine.add_pair(setup.pair())
        record.row(PART, loaded_s=time.monotonic() - began, pair_mb=engine.pair_bytes(handle) / 1e6)
        for streams in setup.streams:
            for mode in MODES:
                await _mode(setup, record, engine, handle, streams, mode)
    finally:
        await asyncio.to_thread(engine.close)


async def _mode(setup: Setup, record: Record, engine: Engine, handle: PairHandle, streams: int, mode: Mode) -> None:
    sessions = [await engine.open([(handle, 1.0)], timeout_s=60.0) for _ in range(streams)]
    try:
        proposals = _proposals(setup.width, mode.params)
        clients = [_Client(session, number, mode, proposals) for number, session in enumerate(sessions)]
        await asyncio.gather(*(client.go_on(2) for client in clients))  # prompts, and what the first steps prepare
        steps = TINY_STEPS if setup.tiny else STEPS[streams]
        rates, cpu, before = [], time.process_time(), engine.stats()
        for _ in range(ROUNDS):
            started = time.perf_counter()
            tokens = sum(await asyncio.gather(*(client.go_on(steps) for client in clients)))
            rates.append(tokens / (time.perf_counter() - started))
        cpu, after = time.process_time() - cpu, engine.stats()
    finally:
        for session in sessions:
            session.close()
    done = ROUNDS * streams * steps
    per_s = statistics.median(rates)
    batches = after.batches - before.batches
    busy = after.forward_s - before.forward_s
    record.row(
        PART,
        decisions=mode.name,
        streams=streams,
        rows_per_s=per_s,
        cpu_us_per_row=1e6 * cpu / done,
        rows_per_batch=(after.rows - before.rows) / max(batches, 1),
        ms_per_batch=1e3 * busy / max(batches, 1),
    )
    if mode.figure is not None:
        record.figure(f"{mode.figure}_{streams}", per_s)


class _Client:
    """One stream: as a front-end asks, without a black box to wait for."""

    def __init__(self, session: Session, number: int, mode: Mode, proposals: Sequence[Proposal]) -> None:
        self._session = session
        self._number = number
        self._mode = mode
        self._proposals = proposals
        self._ids = [(7 * i + 13 * number) % 1000 + 5 for i in range(PROMPT)]
        self._done = 0
        self._corrector: Corrector | None = None
        if mode.params is not None:
            self._corrector = session.corrector(AnswerSpec(self._ids, mode.params, index=number))

    async def go_on(self, tokens: int) -> int:
        """At least so many; returns how many there were."""
        until = self._done + tokens
        started = self._done
        while self._done < until:
            self._done += await (self._row() if self._corrector is None else self._decide(self._corrector))
        return self._done - started

    async def _row(self) -> int:
        await self._session.row(self._ids)
        self._ids.append(self._done % 500 + 5)
        return 1

    async def _decide(self, corrector: Corrector) -> int:
        run = [self._proposals[(self._done + self._number + i) % len(self._proposals)] for i in range(self._mode.run)]
        params = self._mode.params
        return len(await corrector.decide(run, params.temperature if params else None))


def _proposals(width: int, params: SamplingParams | None, count: int = 64, k: int = 20) -> list[Proposal]:
    """Lists of `k` random ids that leave little to the tail; each token is drawn from its list, or the first of it."""
    rng = np.random.default_rng(0)
    greedy = params is None or params.temperature == 0.0
    made = []
    for _ in range(count):
        ids = rng.choice(width, k, replace=False).astype(np.int64)
        probs = np.sort(rng.dirichlet(np.full(k + 1, 0.3)))[::-1][:k]  # what is left out is the least of them
        at = 0 if greedy else int(rng.choice(k, p=probs / probs.sum()))
        made.append(Proposal(int(ids[at]), ids, np.log(np.maximum(probs, 1e-12))))
    return made
