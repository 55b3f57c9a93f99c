"""A real server with its pair on the device, against the black box alone: answers of 64 tokens at 25 ms a token."""

from typing import Any, Final

from benchmarks.gpu.record import Record
from benchmarks.gpu.setup import Setup
from benchmarks.serving import Bench, Case
from benchmarks.support.processes import WEIGHTS, deltaserve
from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer

PACE: Final = ("--ms-per-token", "25", "--first-token-ms", "40", "--threads", "2")
REQUESTS: Final = {1: 2, 4: 4, 16: 48, 64: 128}
PART: Final = "serving"


def serving(setup: Setup, record: Record) -> None:
    streams = str(setup.streams[-1])
    flags = ("--max-streams", streams, "--max-queue", "512", "--device", setup.device, "--max-context", "512")
    box = setup.box(*PACE)
    with deltaserve(box.url, *flags, weights=setup.root) as served:
        bench = Bench(box, served, Tokenizer.load(WEIGHTS / "base"), REQUESTS)
        for case in _cases(setup):
            measured = _measured(bench, case)
            record.row(PART, T=case.temperature, streams=case.streams, **measured)
            if case.streams > 1 and not setup.tiny:
                record.figure(f"gpu_{'t1' if case.temperature else 'greedy'}_{case.streams}", measured["ratio"])


def _cases(setup: Setup) -> list[Case]:
    """Where only the code is tried, answers may end before their 64 tokens."""
    long = not setup.tiny
    return [Case("retain", temperature, n, long=long) for temperature in (0.0, 1.0) for n in setup.streams]


def _measured(bench: Bench, case: Case) -> dict[str, Any]:
    """Once each way: the black box is paced, so that both sides take their time."""
    if case.streams == 1 and case.temperature == 0.0:
        bench.through(case)  # what a first request prepares
    direct, (through, cost) = bench.direct(case), bench.through(case)
    return {
        "ratio": through.per_stream / direct.per_stream,
        "direct_per_s": direct.per_second,
        "through_per_s": through.per_second,
        "ttft_added_ms": through.first_ms() - direct.first_ms(),
        "between_p99_ms": through.between_ms(0.99),
        "direct_between_p99_ms": direct.between_ms(0.99),
        **cost,
    }
