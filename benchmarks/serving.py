"""The same prompts and the same paced black box: directly, by one call per token, and through deltaserve.

python -m benchmarks.serving                    every row; about eight minutes
python -m benchmarks.serving --quick            a few requests per row: does it run?
python -m benchmarks.serving --only 'T=1.*=64'  rows whose names the expression is found in

The demo's answers are short, so that opening calls is much of what they cost. Rows of "64 tokens" are forced on to that
length on both sides, through an offset that costs what the demo's costs and changes hardly a token: one call an answer.
"""

import argparse
import asyncio
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from benchmarks.support import load, report
from benchmarks.support.adapters import without_effect
from benchmarks.support.processes import WEIGHTS, Running, black_box, deltaserve
from benchmarks.support.stepwise import stepwise
from deltaserve.offset_models.demo.register.questions import Split, evaluation_questions
from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer

PACE: Final = ("--ms-per-token", "20", "--first-token-ms", "40")
POOL_PACE: Final = ("--ms-per-token", "60", "--first-token-ms", "40")  # two black boxes beside the rest fill no core
SLOWER_START: Final = ("--ms-per-token", "20", "--first-token-ms", "60")
REQUESTS: Final = {1: 10, 16: 96, 64: 256}
LONG_REQUESTS: Final = {1: 3, 16: 32, 64: 128}
ROUNDS: Final = 3
SCHEMA: Final = {
    "type": "object",
    "properties": {"about": {"type": "string", "maxLength": 40}, "answer": {"type": "string", "maxLength": 80}},
    "required": ["about", "answer"],
    "additionalProperties": False,
}
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Case:
    """One row: which questions, how they are asked, and how many at a time."""

    split: Split
    temperature: float
    streams: int
    long: bool = False
    slower_start: bool = False
    schema: bool = False
    uncorrected: bool = False

    @property
    def name(self) -> str:
        more = ", 64 tokens" * self.long + ", 60 ms to the first token" * self.slower_start
        more += ", a schema over none" * self.schema + ", strength 0" * self.uncorrected
        return f"{self.split} T={self.temperature:g} streams={self.streams}{more}"

    @property
    def sampling(self) -> dict[str, Any]:
        form = {"structured_outputs": {"json": SCHEMA}} if self.schema else {}
        return {"temperature": self.temperature, **({"ignore_eos": True} if self.long else {}), **form}


SHORT: Final = [
    Case(split, temperature, streams)
    for split in ("retain", "forget")
    for temperature in (0.0, 1.0)
    for streams in (1, 16, 64)
]
LONG: Final = [Case("retain", temperature, streams, long=True) for temperature in (0.0, 1.0) for streams in (1, 16, 64)]
FORMED: Final = [
    Case("retain", temperature, 16, schema=True, uncorrected=uncorrected)
    for uncorrected in (False, True)
    for temperature in (0.0, 1.0)
]
SLOWER: Final = Case("retain", 0.0, 1, slower_start=True)
STEPWISE: Final = "retain T=0 streams=1, over one call per token"
POOL: Final = "retain T=0 streams=16, pool of 2 over one black box"
FIGURES: Final = {
    "retain_greedy_1": (Case("retain", 0.0, 1), "ratio"),
    "retain_greedy_16": (Case("retain", 0.0, 16), "ratio"),
    "retain_greedy_64": (Case("retain", 0.0, 64), "ratio"),
    "retain_t1_16": (Case("retain", 1.0, 16), "ratio"),
    "retain_t1_64": (Case("retain", 1.0, 64), "ratio"),
    "forget_greedy_1": (Case("forget", 0.0, 1), "ratio"),
    "forget_greedy_16": (Case("forget", 0.0, 16), "ratio"),
    "retain_best_1": (SLOWER, "ratio"),
    "forget_calls_per_100": (Case("forget", 0.0, 1), "calls_per_100"),
    "ttft_added_ms_p50": (Case("retain", 0.0, 1), "ttft_added_ms"),
    "cpu_us_per_token_16": (Case("retain", 0.0, 16, long=True), "cpu_us_per_token"),
    "cpu_us_per_token_t1_16": (Case("retain", 1.0, 16, long=True), "cpu_us_per_token"),
    "long_greedy_16": (Case("retain", 0.0, 16, long=True), "ratio"),
    "long_greedy_64": (Case("retain", 0.0, 64, long=True), "ratio"),
    "long_t1_16": (Case("retain", 1.0, 16, long=True), "ratio"),
    "long_t1_64": (Case("retain", 1.0, 64, long=True), "ratio"),
    "schema_greedy_16": (FORMED[0], "ratio"),
    "schema_t1_16": (FORMED[1], "ratio"),
    "schema_greedy_16_uncorrected": (FORMED[2], "ratio"),
    "schema_t1_16_uncorrected": (FORMED[3], "ratio"),
}
SERVE: Final = ("--max-streams", "64", "--max-queue", "512", "--torch-threads", "1", "--device", "cpu")


@dataclass(frozen=True, slots=True)
class Bench:
    """One black box and one deltaserve in front of it."""

    box: Running
    served: Running
    tokenizer: Tokenizer
    requests: Mapping[int, int]

    def prompts(self, case: Case) -> list[list[int]]:
        questions = [q.text for q in evaluation_questions(case.split)]
        wanted = self.requests[case.streams]
        texts = (questions * (wanted // len(questions) + 1))[:wanted]
        return [self._encoded(text) for text in texts]

    def _encoded(self, text: str) -> list[int]:
        return self.tokenizer.encode(self.tokenizer.render_chat([{"role": "user", "content": text}]), False)

    def direct(self, case: Case) -> load.Measured:
        return asyncio.run(load.run(self.box.url, "blackbox", self.prompts(case), case.streams, **case.sampling))

    def through(self, case: Case) -> tuple[load.Measured, dict[str, float]]:
        """The load, and what it cost deltaserve, all its processes together."""
        before, cpu_before = self.served.metrics(), self.served.cpu_s()
        measured = asyncio.run(load.run(self.served.url, "blackbox", self.prompts(case), case.streams, **case.sampling))
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

    def warm(self, cases: Sequence[Case]) -> None:
        """Both sides have seen every prompt, and the draft policy has its times."""
        for split in dict.fromkeys(case.split for case in cases):
            case = Case(split, 0.0, 1, long=cases[0].long)
            self.direct(case)
            self.through(case)

    def by_steps(self) -> load.Measured:
        return asyncio.run(stepwise(self.box.url, WEIGHTS, self.prompts(SHORT[0]), 1))


@contextmanager
def bench(pace: Sequence[str], requests: Mapping[int, int], *flags: str, weights: Path = WEIGHTS) -> Iterator[Bench]:
    tokenizer = Tokenizer.load(WEIGHTS / "base")
    with black_box(*pace) as box, deltaserve(box.url, *SERVE, *flags, weights=weights) as served:
        yield Bench(box, served, tokenizer, requests)


def measure(made: Bench, case: Case, rounds: int) -> Row:
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


def schema_over_none(made: Bench, case: Case, rounds: int) -> Row:
    """The same questions through deltaserve, held to a schema and free, in turns."""
    free = replace(case, schema=False)
    for one in (free, case):
        made.through(one)
    turns = [(made.through(free)[0], *made.through(case)) for _ in range(rounds)]
    row = {
        "case": case.name,
        "ratio": report.median(held.per_stream / one.per_stream for one, held, _ in turns),
        "direct_per_stream": report.median(one.per_stream for one, _, _ in turns),
        "through_per_stream": report.median(held.per_stream for _, held, _ in turns),
        **{name: report.median(cost[name] for _, _, cost in turns) for name in turns[0][2]},
    }
    print(f"{row['case']}: {row['ratio']:.2f}, {row['calls_per_100']:.1f} calls for 100 tokens", flush=True)
    return row


def pool_over_one(requests: Mapping[int, int], rounds: int) -> Row:
    """The same kept answers through a pool of two black boxes and through one of them, in turns.

    Paced as larger models are: at the pace of the other rows what is measured is the second black box's own CPU.
    """
    case = Case("retain", 0.0, 16)
    with (
        bench(POOL_PACE, requests) as one,
        black_box(*POOL_PACE) as other,
        deltaserve(f"{one.box.url},{other.url}", *SERVE) as served,
    ):
        pool = replace(one, served=served)
        for made in (one, pool):
            made.warm([case])
        turns = [(one.through(case)[0], pool.through(case)[0]) for _ in range(rounds)]
    return {
        "case": POOL,
        "ratio": report.median(p.per_stream / o.per_stream for o, p in turns),
        "direct_per_stream": report.median(o.per_stream for o, _ in turns),
        "through_per_stream": report.median(p.per_stream for _, p in turns),
    }


def measure_all(made: Bench, cases: Sequence[Case], rounds: int) -> Iterator[Row]:
    """Says each row as soon as it is there: a run that is stopped has shown what it has."""
    made.warm(cases)
    for case in cases:
        row = measure(made, case, rounds)
        print(f"{row['case']}: {row['ratio']:.2f}, {row['cpu_us_per_token']:.0f} µs a token", flush=True)
        yield row


def figures(rows: Mapping[str, Row]) -> dict[str, float]:
    """One number for each goal in docs/performance.md, of the rows that were measured."""
    found = {name: rows[case.name][column] for name, (case, column) in FIGURES.items() if case.name in rows}
    found |= {"over_stepwise": rows[STEPWISE]["ratio"]} if STEPWISE in rows else {}
    return found | ({"pool_over_one_16": rows[POOL]["ratio"]} if POOL in rows else {})


def run(wanted: re.Pattern[str], requests: Mapping[int, int], long: Mapping[int, int], rounds: int) -> list[Row]:
    """All rows that are wanted, a pair of servers for each kind."""
    rows: list[Row] = []
    short, forced, slower = ([c for c in cases if wanted.search(c.name)] for cases in (SHORT, LONG, [SLOWER]))
    by_steps = bool(wanted.search(STEPWISE))
    if by_steps and SHORT[0] not in short:
        short = [SHORT[0], *short]
    if short:
        with bench(PACE, requests) as made:
            rows += measure_all(made, short, rounds)
            if by_steps:
                rows.append({"case": STEPWISE, "ratio": rows[0]["through_per_stream"] / made.by_steps().per_stream})
    if forced:
        with tempfile.TemporaryDirectory() as folder:
            weights = without_effect(WEIGHTS / "base", Path(folder))
            with bench(PACE, long, weights=weights) as made:
                rows += measure_all(made, forced, rounds)
    if slower:
        with bench(SLOWER_START, requests) as made:
            rows += measure_all(made, slower, rounds)
    for flags, uncorrected in (((), False), (("--strength", "0"), True)):
        if formed := [c for c in FORMED if c.uncorrected == uncorrected and wanted.search(c.name)]:
            with bench(PACE, requests, *flags) as made:
                rows += [schema_over_none(made, case, rounds) for case in formed]
    if wanted.search(POOL):
        rows.append(pool_over_one(requests, rounds))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", type=re.compile, default=re.compile(""), metavar="PATTERN", help="of rows' names")
    args = parser.parse_args()
    requests, long, rounds = REQUESTS, LONG_REQUESTS, ROUNDS
    if args.quick:
        requests, long, rounds = {1: 3, 16: 16, 64: 64}, {1: 1, 16: 16, 64: 64}, 1
    rows = run(args.only, requests, long, rounds)
    if not rows:
        parser.error(f"No row's name has {args.only.pattern!r} in it.")
    columns = list(max(rows, key=len))
    report.show("deltaserve ÷ direct", columns, [[row.get(c, "") for c in columns] for row in rows])
    found = figures({row["case"]: row for row in rows})
    report.show("figures", ["figure", "value"], found.items())
    settings = {"pace": PACE, "slower_start": SLOWER_START, "requests": requests, "long_requests": long}
    print(report.write("serving", found, {**settings, "rounds": rounds, "only": args.only.pattern}, rows))


if __name__ == "__main__":
    main()
