"""Whether the device says what a CPU says: rows and decisions on given tokens, and whole answers of the demo's pair."""

import asyncio
import gc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.gpu.record import Record
from benchmarks.gpu.setup import Dtype, Setup
from benchmarks.support.adapters import OFFSET
from benchmarks.support.local import LocalPair
from benchmarks.support.processes import WEIGHTS
from deltaserve.offset_models.demo.register.questions import evaluation_questions
from deltaserve.offset_models.engine.engine import Engine
from deltaserve.offset_models.engine.session import Session
from deltaserve.offset_models.engine.settings import EngineSettings
from deltaserve.server.decoding.deciding.corrector import AnswerSpec, Decision
from deltaserve.server.decoding.decoder import decode
from deltaserve.server.decoding.drafting.upstream import UpstreamSource
from deltaserve.server.decoding.params import SamplingParams
from deltaserve.server.decoding.protocols import Proposal

PROMPT: Final = [(7 * i) % 1000 + 5 for i in range(64)]
GIVEN: Final = [(31 * i) % 900 + 7 for i in range(12)]  # tokens behind the prompt, one step each
LISTED: Final = 20
QUESTIONS: Final = 16  # of each side
TINY_QUESTIONS: Final = 1
AT_ONCE: Final = 8
WAYS: Final[dict[str, SamplingParams]] = {
    "greedy": SamplingParams(max_tokens=48, temperature=0.0),
    "seeded": SamplingParams(max_tokens=48, temperature=1.0, seed=7),
}
FLOATS: Final[Sequence[Dtype]] = ("float32", "bfloat16")


@dataclass(frozen=True, slots=True)
class Said:
    """What one device says after the prompt and after each given token."""

    base: NDArray[np.float64]  # [positions, W] log p_o
    unlearned: NDArray[np.float64]  # [positions, W] log p_u
    decisions: Sequence[Decision]  # at the same positions


def logprobs(setup: Setup, record: Record) -> None:
    """The half-billion shape: all ids' log-probabilities, and those that the corrected distribution tells."""
    wanted = asyncio.run(_said(setup, "cpu", "float32", batch_decisions=False))
    for dtype in FLOATS:
        found = asyncio.run(_said(setup, setup.device, dtype, batch_decisions=True))
        gc.collect()
        worst = _largest(found.base - wanted.base), _largest(found.unlearned - wanted.unlearned)
        told = max(map(_told_apart, wanted.decisions, found.decisions))
        same = sum(a.token_id == b.token_id for a, b in zip(wanted.decisions, found.decisions, strict=True))
        record.row(
            "logprobs",
            dtype=dtype,
            largest_error_base=worst[0],
            largest_error_unlearned=worst[1],
            mean_error_unlearned=float(np.nanmean(np.abs(found.unlearned - wanted.unlearned))),
            largest_error_told=told,
            same_decisions=same / len(wanted.decisions),
        )
        record.figure(f"gpu_logprob_error_{dtype}", max(*worst, told))


async def _said(setup: Setup, device: str, dtype: Dtype, *, batch_decisions: bool) -> Said:
    """Rows by one session; decisions by another, which the given tokens are proposed to."""
    settings = EngineSettings(max_streams=2, max_len=256, device=device, dtype=dtype, batch_decisions=batch_decisions)
    engine = Engine(settings)
    engine.start()
    try:
        handle = await engine.add_pair(setup.pair())
        reading, deciding = [await engine.open([(handle, 1.0)], timeout_s=60.0) for _ in range(2)]
        rows = [await _row(reading, PROMPT + GIVEN[:n]) for n in range(len(GIVEN))]
        params = SamplingParams(max_tokens=len(GIVEN) + 1, temperature=0.0, top_logprobs=LISTED)
        corrector = deciding.corrector(AnswerSpec(PROMPT, params))
        decisions: list[Decision] = []
        for at, token_id in enumerate(GIVEN):
            decisions += await corrector.decide([_proposal(setup.width, token_id, at)], 0.0)
        reading.close()
        deciding.close()
    finally:
        await asyncio.to_thread(engine.close)
    return Said(np.stack([base for base, _ in rows]), np.stack([base + off for base, off in rows]), decisions)


async def _row(session: Session, ids: Sequence[int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """log p_o and the offset of all ids, [W] each."""
    row = await session.row(ids)
    every = np.arange(row.vocab_size)
    return row.base(every), row.offset(every)


def _proposal(width: int, token_id: int, at: int) -> Proposal:
    """A list that begins with `token_id`, by so much that every device takes it."""
    others = np.random.default_rng(at).choice(width, LISTED, replace=False)
    ids = np.array([token_id, *others[others != token_id][: LISTED - 1]], np.int64)
    return Proposal(token_id, ids, np.log(np.array([0.6, *np.linspace(0.03, 0.01, len(ids) - 1)])))


def _largest(errors: NDArray[np.float64]) -> float:
    """−inf on both sides is equal."""
    return float(np.nanmax(np.abs(errors)))


def _told_apart(one: Decision, other: Decision) -> float:
    """The largest difference among the log-probabilities that both told of the same ids."""
    told = [dict(zip(d.top[0].tolist(), d.top[1].tolist(), strict=True)) if d.top else {} for d in (one, other)]
    common = [abs(told[0][i] - told[1][i]) for i in told[0].keys() & told[1].keys()]
    logprobs = [d.logprob for d in (one, other) if d.logprob is not None]
    own = abs(logprobs[0] - logprobs[1]) if one.token_id == other.token_id and len(logprobs) == 2 else 0.0
    return max([own, *common])


def answers(setup: Setup, record: Record) -> None:
    """The demo's pair: greedy and seeded answers, here and on a CPU, in front of the same black box."""
    url, of_each = setup.box().url, TINY_QUESTIONS if setup.tiny else QUESTIONS
    wanted = asyncio.run(_answers(url, of_each, "cpu", "float32", batch_decisions=False))
    for dtype in FLOATS:
        found = asyncio.run(_answers(url, of_each, setup.device, dtype, batch_decisions=True))
        same = {f"same_{way}": _same(wanted[way], found[way]) for way in WAYS}
        record.row("answers", dtype=dtype, answers=2 * of_each, **same)
        if dtype == "float32":
            for name, share in same.items():
                record.figure(f"gpu_{name}", share)


async def _answers(
    url: str, of_each: int, device: str, dtype: Dtype, *, batch_decisions: bool
) -> dict[str, list[list[int]]]:
    where = {"device": device, "dtype": dtype, "batch_decisions": batch_decisions}
    async with LocalPair.open(url, WEIGHTS, OFFSET, streams=AT_ONCE, **where) as pair:  # type: ignore[arg-type]
        questions = [q.text for split in ("retain", "forget") for q in evaluation_questions(split, of_each)]
        places = asyncio.Semaphore(AT_ONCE)

        async def answer(question: str, params: SamplingParams) -> list[int]:
            async with places, pair.stream(question, params) as stream:
                return [step.token_id async for step in decode(stream, UpstreamSource(pair.box))]

        return {way: await asyncio.gather(*(answer(q, params) for q in questions)) for way, params in WAYS.items()}


def _same(wanted: Sequence[list[int]], found: Sequence[list[int]]) -> float:
    return sum(a == b for a, b in zip(wanted, found, strict=True)) / len(wanted)
