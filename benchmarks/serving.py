"""The same prompts and the same paced black box three ways: directly, by one call per token, and through deltaserve.

python -m benchmarks.serving            every row; a few minutes
python -m benchmarks.serving --quick    a few requests per row: does it run?
"""

import argparse
import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.support import load, report
from benchmarks.support.processes import WEIGHTS, Running, black_box, deltaserve
from benchmarks.support.stepwise import stepwise
from deltaserve.offset_models.demo.register.questions import Split, evaluation_questions
from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer

PACE = ("--ms-per-token", "20", "--first-token-ms", "40")
SLOWER_START = ("--ms-per-token", "20", "--first-token-ms", "60")
REQUESTS = {1: 20, 16: 192, 64: 448}
ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Case:
    split: Split
    temperature: float
    streams: int

    @property
    def name(self) -> str:
        return f"{self.split} T={self.temperature:g} streams={self.streams}"


CASES = [
    Case(split, temperature, streams)
    for split in ("retain", "forget")
    for temperature in (0.0, 1.0)
    for streams in (1, 16, 64)
]


@dataclass(frozen=True, slots=True)
class Bench:
    """One black box and one deltaserve in front of it, both warm."""

    box: Running
    served: Running
    tokenizer: Tokenizer
    requests: dict[int, int]

    def prompts(self, case: Case) -> list[list[int]]:
        questions = [q.text for q in evaluation_questions(case.split)]
        wanted = self.requests[case.streams]
        texts = (questions * (wanted // len(questions) + 1))[:wanted]
        return [self._encoded(text) for text in texts]

    def _encoded(self, text: str) -> list[int]:
        return self.tokenizer.encode(self.tokenizer.render_chat([{"role": "user", "content": text}]), False)

    def direct(self, case: Case) -> load.Measured:
        return asyncio.run(load.run(self.box.url, "blackbox", self.prompts(case), case.streams, **_sampling(case)))

    def through(self, case: Case) -> tuple[load.Measured, dict[str, float]]:
        """The load, and what it cost deltaserve."""
        before, cpu_before = self.served.metrics(), self.served.cpu_s()
        measured = asyncio.run(
            load.run(self.served.url, "blackbox", self.prompts(case), case.streams, **_sampling(case))
        )
        cpu_s, after = self.served.cpu_s() - cpu_before, self.served.metrics()
        grew = {name: after[name] - before.get(name, 0.0) for name in after}
        forward_s = grew['deltaserve_engine{counter="forward_cpu_s"}']
        return measured, {
            "calls_per_100": 100 * grew["deltaserve_upstream_calls_total"] / measured.tokens,
            "wasted_per_100": 100 * grew["deltaserve_wasted_tokens_total"] / measured.tokens,
            "positions_per_100": 100 * grew["deltaserve_block_positions_total"] / measured.tokens,
            "cpu_us_per_token": 1e6 * (cpu_s - forward_s) / measured.tokens,
            "forward_us_per_token": 1e6 * forward_s / measured.tokens,
        }

    def by_steps(self, case: Case) -> load.Measured:
        return asyncio.run(stepwise(self.box.url, WEIGHTS, self.prompts(case), case.streams))


def _sampling(case: Case) -> dict[str, Any]:
    return {"temperature": case.temperature}


@contextmanager
def bench(pace: tuple[str, ...], requests: dict[int, int], *extra: str) -> Iterator[Bench]:
    tokenizer = Tokenizer.load(WEIGHTS / "base")
    serve = ("--max-streams", "64", "--max-queue", "512", "--torch-threads", "1", *extra)
    with black_box(*pace) as box, deltaserve(box.url, *serve) as served:
        made = Bench(box, served, tokenizer, requests)
        for split in ("retain", "forget"):  # both sides have seen every prompt, and the draft policy has its times
            made.direct(Case(split, 0.0, 1))
            made.through(Case(split, 0.0, 1))
        yield made


def measure(made: Bench, case: Case, rounds: int) -> dict[str, Any]:
    """Side by side, in turns; ratios are medians over the rounds."""
    turns = [(made.direct(case), *made.through(case)) for _ in range(rounds)]
    direct, through, cost = turns[-1]
    return {
        "case": case.name,
        "ratio": report.median(t.per_stream / d.per_stream for d, t, _ in turns),
        "direct_per_stream": report.median(d.per_stream for d, _, _ in turns),
        "through_per_stream": report.median(t.per_stream for _, t, _ in turns),
        "through_in_all": report.median(t.per_second for _, t, _ in turns),
        "ttft_direct_ms": report.median(d.first_ms() for d, _, _ in turns),
        "ttft_added_ms": report.median(t.first_ms() - d.first_ms() for d, t, _ in turns),
        "between_p50_ms": through.between_ms(0.5),
        "between_p99_ms": through.between_ms(0.99),
        "direct_between_p99_ms": direct.between_ms(0.99),
        **{name: report.median(c[name] for _, _, c in turns) for name in cost},
    }


def figures(rows: dict[str, dict[str, Any]], best: dict[str, Any], over_stepwise: float) -> dict[str, float]:
    retain_1, retain_16 = rows["retain T=0 streams=1"], rows["retain T=0 streams=16"]
    forget_1 = rows["forget T=0 streams=1"]
    return {
        "retain_greedy_1": retain_1["ratio"],
        "retain_greedy_16": retain_16["ratio"],
        "retain_t1_16": rows["retain T=1 streams=16"]["ratio"],
        "forget_greedy_1": forget_1["ratio"],
        "retain_best_1": best["ratio"],
        "forget_calls_per_100": forget_1["calls_per_100"],
        "ttft_added_ms_p50": retain_1["ttft_added_ms"],
        "over_stepwise": over_stepwise,
        "cpu_us_per_token_16": retain_16["cpu_us_per_token"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    requests, rounds = ({1: 3, 16: 16, 64: 64}, 1) if quick else (REQUESTS, ROUNDS)
    with bench(PACE, requests) as made:
        rows = {case.name: measure(made, case, rounds) for case in CASES}
        first = CASES[0]
        steps = made.by_steps(first)
        over_stepwise = rows[first.name]["through_per_stream"] / steps.per_stream
    with bench(SLOWER_START, requests) as made:
        best = measure(made, Case("retain", 0.0, 1), rounds)
    found = figures(rows, best, over_stepwise)
    columns = list(rows[first.name])
    shown = [*rows.values(), {**best, "case": "retain T=0 streams=1, 60 ms to the first token"}]
    report.show("deltaserve ÷ direct", columns, [[row[c] for c in columns] for row in shown])
    report.show("figures", ["figure", "value"], found.items())
    settings = {"pace": PACE, "slower_start": SLOWER_START, "requests": requests, "rounds": rounds}
    path: Path = report.write("serving", found, settings, shown)
    print(path)


if __name__ == "__main__":
    main()
