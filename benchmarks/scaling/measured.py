"""Real replicas on this machine, each on one core, beside the simulation of the same."""

import asyncio
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.scaling.costs import Costs, Stage
from benchmarks.scaling.machines import Pace
from benchmarks.scaling.world import Plan, World
from benchmarks.support import load
from benchmarks.support.adapters import without_effect
from benchmarks.support.processes import WEIGHTS, Running, black_box, deltaserve, family
from deltaserve.offset_models.demo.register.questions import evaluation_questions
from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer

SIZES: Final = (1, 2, 4)
STREAMS: Final = 6  # of each replica
ANSWERS: Final = 5  # of each stream
TOKENS: Final = 64
_SERVE = ("--workers", "0", "--max-streams", str(STREAMS), "--torch-threads", "1", "--device", "cpu")


@dataclass(frozen=True, slots=True)
class Seen:
    """One load. Work is CPU time a token."""

    tokens_per_s: float
    replica_us: float
    others_us: float  # of the black box and the clients
    first_s: float


def compare(pace: Pace) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """What one replica costs is measured; what more of them give is simulated from it, and measured too."""
    seen = {}
    for replicas in SIZES:
        with _fleet(replicas, pace) as (served, box):
            seen[replicas] = asyncio.run(_load(served, box))
        print(f"{replicas} replicas: {seen[replicas].tokens_per_s:.0f} tokens/s measured", flush=True)
    rows = [_row(replicas, seen, pace) for replicas in SIZES]
    return rows, {
        "two_over_one": seen[2].tokens_per_s / seen[1].tokens_per_s,
        "simulated_error": max(abs(row["simulated ÷ measured"] - 1) for row in rows),
    }


def simulated_tokens_per_s(replicas: int, one: Seen, pace: Pace, cores: int) -> float:
    """From the costs of one replica: each has a core, and all have the machine together."""
    work = Stage("replica", 1, {STREAMS: one.replica_us})
    machine = Stage("machine", cores, {STREAMS: one.replica_us + one.others_us})
    costs = Costs("this machine", [work], STREAMS, 1e3 * max(one.first_s - pace.first_s, 0.0), 0.0)
    plan = Plan(
        replicas,
        boxes=1,
        sessions=replicas * STREAMS,
        seconds=60.0,
        warm_s=10.0,
        think_s=1e-3,
        prompt=1,
        answer=TOKENS,
        even=True,
    )
    return World(plan, costs, pace, machine).run().tokens / (plan.seconds - plan.warm_s)


def _row(replicas: int, seen: dict[int, Seen], pace: Pace) -> dict[str, Any]:
    told = simulated_tokens_per_s(replicas, seen[1], pace, len(os.sched_getaffinity(0)))
    measured = seen[replicas].tokens_per_s
    return {
        "replicas": replicas,
        "measured tokens/s": measured,
        "simulated tokens/s": told,
        "simulated ÷ measured": told / measured,
        "replica, µs a token": seen[replicas].replica_us,
        "others, µs a token": seen[replicas].others_us,
    }


@contextmanager
def _fleet(replicas: int, pace: Pace) -> Iterator[tuple[list[Running], Running]]:
    cores = sorted(os.sched_getaffinity(0))
    paced = ("--ms-per-token", str(1e3 * pace.token_s), "--first-token-ms", str(1e3 * pace.first_s))
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        weights = without_effect(WEIGHTS / "base", Path(folder))
        box = stack.enter_context(black_box(*paced))
        served = [stack.enter_context(deltaserve(box.url, *_SERVE, weights=weights)) for _ in range(replicas)]
        for number, one in enumerate(served):
            _pin(one.pid, cores[number % len(cores)])
        yield served, box


def _pin(pid: int, core: int) -> None:
    """All threads of a process and of its children."""
    for one in family(pid):
        for task in Path(f"/proc/{one}/task").iterdir():
            os.sched_setaffinity(int(task.name), {core})


async def _load(served: Sequence[Running], box: Running) -> Seen:
    prompts = _prompts()
    for one in served:
        await load.run(one.url, "blackbox", prompts[:STREAMS], STREAMS, ignore_eos=True, temperature=0.0)
    before = _cpu_s(served), box.cpu_s() + time.process_time()
    began = time.perf_counter()
    runs = await asyncio.gather(
        *(load.run(one.url, "blackbox", prompts, STREAMS, ignore_eos=True, temperature=0.0) for one in served)
    )
    seconds, tokens = time.perf_counter() - began, sum(run.tokens for run in runs)
    return Seen(
        tokens / seconds,
        1e6 * (_cpu_s(served) - before[0]) / tokens,
        1e6 * (box.cpu_s() + time.process_time() - before[1]) / tokens,
        sum(run.first_ms() for run in runs) / len(runs) / 1e3,
    )


def _prompts() -> list[list[int]]:
    tokenizer = Tokenizer.load(WEIGHTS / "base")
    texts = [question.text for question in evaluation_questions("retain")]
    chats = [tokenizer.render_chat([{"role": "user", "content": text}]) for text in texts]
    wanted = STREAMS * ANSWERS
    return [tokenizer.encode(chat, False) for chat in (chats * (wanted // len(chats) + 1))[:wanted]]


def _cpu_s(served: Sequence[Running]) -> float:
    return sum(one.cpu_s() for one in served)
