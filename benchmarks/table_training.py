"""Objectives side by side on the demo's register: offsets against direct tuning, top 20 against all, sums of requests.

python -m benchmarks.table_training                       every row that build/bench/training.json does not have yet
python -m benchmarks.table_training --only idk,npo --fresh
python -m benchmarks.table_training --judge-again --judging 300      what was trained is kept; chosen and asked again
python -m benchmarks.table_training --seeds 7,8                      objectives and direct tuning once for each seed
"""

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from benchmarks.support import report
from benchmarks.support.demo_training import (
    MORE_PEOPLE,
    ONE_PERSON,
    Questions,
    Request,
    request,
    split,
    ten_people,
    whole_register,
)
from benchmarks.support.judging import READINGS, figures, harmonic
from benchmarks.support.training_rows import Bench, direct, direct_again, offset, offset_again, opened, served_sum
from deltaserve.offset_models.training.learning.objectives import BUILT_IN
from deltaserve.offset_models.training.learning.settings import TrainingSettings

Cells = dict[str, Any]
RESULT = report.BUILD / "training.json"
OBJECTIVES = [objective.name for objective in BUILT_IN]
TUNED_DIRECTLY = [name for name in OBJECTIVES if name != "contrast"]  # whose two small models leave nothing to tune
TOP_K_AGAINST_ALL = ("idk", "npo", "dpo", "undial")  # trained on both
EVERYTHING = 2048  # the demo's vocabulary
SEED = 7
SUMS = (1, 3, 10)
PERSON_STEPS = 120  # a person is a sixth of the register
SUM_GATE_NATS = 0.5  # what many small offsets add up to elsewhere stays behind it


@dataclass(frozen=True, slots=True)
class Table:
    """What every row needs: where it is made, and what the command line says."""

    bench: Bench
    args: argparse.Namespace

    @property
    def asked(self) -> Questions:
        return Questions(self.args.choosing, self.args.choosing_retain, self.args.judging)

    def settings(self, objective: str, **more: Any) -> TrainingSettings:
        """The package's own, but for what the command line says."""
        named = (
            "steps",
            "learning_rate",
            "rank",
            "alpha",
            "answer_noise",
            "retain_weight",
            "retain_loss",
            "strength",
            "extrapolate",
            "gate_nats",
        )
        given = {name: value for name in named if (value := getattr(self.args, name)) is not None}
        more = {"seed": SEED, **more, **given}
        return TrainingSettings(objective=objective, options=dict(self.args.option), **more)


@dataclass(frozen=True, slots=True)
class Row:
    """How a row is made; and how what it made is judged again, where that is not the same."""

    make: Callable[[], Cells]
    judge: Callable[[], Cells]


def rows(table: Table) -> Iterator[tuple[str, Row]]:
    """Every row by name, in the order of the table."""
    register = whole_register(table.asked)
    for seed, name in product(table.args.seeds, OBJECTIVES):
        yield offset_row(table, of_seed(name, seed), register, table.settings(name, seed=seed))
    for seed, name in product(table.args.seeds, TUNED_DIRECTLY):
        yield direct_row(table, of_seed(f"direct-{name}", seed), register, table.settings(name, seed=seed))
    for seed, name in product(table.args.seeds, TOP_K_AGAINST_ALL):
        full = of_seed(f"{name}-full-vocabulary", seed)
        yield offset_row(table, full, register, table.settings(name, seed=seed), EVERYTHING)
    for count in SUMS:  # one offset for all of them
        yield offset_row(table, f"one-for-{count}", people_together(table, count), table.settings("idk"))
    for number in range(1, max(SUMS) + 1):
        settings = table.settings("idk", steps=PERSON_STEPS)
        yield offset_row(table, f"request-{number}", one_person(table, number), settings)
    for count in SUMS:
        yield sum_row(table, f"sum-of-{count}", count)
        yield sum_row(table, f"sum-of-{count}-gated", count, SUM_GATE_NATS)


def of_seed(name: str, seed: int) -> str:
    """A row's name; the usual seed goes without saying."""
    return name if seed == SEED else f"{name}-seed-{seed}"


def offset_row(table: Table, name: str, made: Request, settings: TrainingSettings, k: int = 20) -> tuple[str, Row]:
    bench = table.bench
    return name, Row(
        lambda: offset(bench, made, settings, name, k),
        lambda: offset_again(bench, made, settings, name, k),
    )


def direct_row(table: Table, name: str, made: Request, settings: TrainingSettings) -> tuple[str, Row]:
    bench = table.bench
    return name, Row(
        lambda: direct(bench, made, settings, name),
        lambda: direct_again(bench, made, name),
    )


def sum_row(table: Table, name: str, count: int, least_gate_nats: float = 0.0) -> tuple[str, Row]:
    """The first `count` requests as a sum of offsets, judged by the questions of `one-for-count`."""

    def summed() -> Cells:
        parts = [f"request-{number}" for number in range(1, count + 1)]
        if missing := [part for part in parts if not (table.bench.row(part) / part).is_dir()]:
            raise SystemExit(f"The sum needs the row {missing[0]} first.")
        return figures(served_sum(table.bench, people_together(table, count), parts, least_gate_nats))

    return name, Row(summed, summed)


def one_person(table: Table, number: int) -> Request:
    """An erasure request of its own; it knows nothing of the others, whom it neither forgets nor keeps."""
    people = ten_people()
    return request(f"request-{number}", split(people[number - 1 : number], people), ONE_PERSON, table.asked)


def people_together(table: Table, count: int) -> Request:
    """`count` people at once."""
    people = ten_people()
    return request(f"one-for-{count}", split(people[:count], people), MORE_PEOPLE, table.asked)


def measured(name: str, row: Row, known: dict[str, Cells], args: argparse.Namespace) -> Cells | None:
    """The row's cells if there is anything to do for them."""
    if args.judge_again:
        return {**known[name], **row.judge()} if name in known else None
    return {"row": name, **row.make()} if name not in known or args.fresh else None


def known_rows() -> dict[str, Cells]:
    """Rows of an earlier run."""
    return {row["row"]: row for row in json.loads(RESULT.read_text())["rows"]} if RESULT.is_file() else {}


def write(found: dict[str, Cells], args: argparse.Namespace) -> None:
    means = {f"{name}_harmonic": row["harmonic"] for name, row in found.items()}
    report.write("training", means, {"choosing": args.choosing, "judging": args.judging}, list(found.values()))


COLUMNS = {
    "forget ROUGE-L before": "recall/forget/black_box",
    "after": "recall/forget/corrected",
    "facts told": "facts/forget/corrected",
    "retain before": "recall/retain/black_box",
    "after ": "recall/retain/corrected",
    "forget prob. before": "probability/forget/black_box",
    "after  ": "probability/forget/corrected",
    "retain prob. before": "probability/retain/black_box",
    "after   ": "probability/retain/corrected",
    "harmonic": "harmonic",
    "strength": "strength",
    "gate": "gate_nats",
    "step": "kept_step",
    "s": "train_s",
}


def beside(found: dict[str, Cells], seeds: Sequence[int], reading: str) -> list[list[Any]]:
    """Harmonic means of an objective's offsets and of direct tuning by it: of all seeds there are, and of each."""

    def each(name: str) -> list[float]:
        return [harmonic(found[row], reading) for seed in seeds if (row := of_seed(name, seed)) in found]

    pairs = ((name, each(name), each(f"direct-{name}")) for name in TUNED_DIRECTLY)
    return [[name, *_mean_and_each(offsets), *_mean_and_each(direct)] for name, offsets, direct in pairs]


def _mean_and_each(values: Sequence[float]) -> tuple[float | None, str]:
    return mean(values) if values else None, ", ".join(f"{value:.3f}" for value in values)


def whole_numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="rows by name, with commas between them")
    parser.add_argument("--fresh", action="store_true", help="measure rows again that are there")
    parser.add_argument(
        "--judge-again",
        action="store_true",
        help="rows that are there, trained by these settings: choose and ask again",
    )
    parser.add_argument("--seeds", type=whole_numbers, default=[SEED], help="with commas between them")
    parser.add_argument("--steps", type=int, help="instead of each row's own")
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--rank", type=int)
    parser.add_argument("--alpha", type=float)
    parser.add_argument("--answer-noise", type=float)
    parser.add_argument("--retain-weight", type=float)
    parser.add_argument("--retain-loss", choices=("kl", "nll", "none"))
    parser.add_argument("--strength", type=float)
    parser.add_argument("--extrapolate", type=float)
    parser.add_argument("--gate-nats", type=float)
    parser.add_argument("--option", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    parser.add_argument("--choosing", type=int, default=180, help="held-out questions to be forgotten that choose")
    parser.add_argument("--choosing-retain", type=int, default=720, help="held-out questions to be kept that choose")
    parser.add_argument("--judging", type=int, default=2000, help="others of each side that judge; all, if fewer")
    parser.add_argument("--work", type=Path, default=Path("build/training"), help="what a later run finds again")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    args.option = [(name, float(value)) for name, value in args.option]
    torch.set_num_threads(args.threads)
    found, wanted = known_rows(), args.only.split(",") if args.only else None
    with opened(args.work) as bench:
        todo = dict(rows(Table(bench, args)))
        if unknown := sorted(set(wanted or ()) - set(todo)):
            parser.error(f"There is no row {unknown[0]}; there are: {', '.join(todo)}.")
        for name in wanted or todo:
            if (cells := measured(name, todo[name], found, args)) is not None:
                found = known_rows() | {name: cells}  # another table may have written meanwhile
                found = {row: found[row] for row in [*todo, *found] if row in found}  # those of other seeds last
                write(found, args)
    for reading in READINGS:
        columns = ["objective", "offset", "each", "direct", "each "]
        report.show(f"harmonic mean by {reading}", columns, beside(found, args.seeds, reading))
    shown = {name: row for name, row in found.items() if wanted is None or name in wanted}
    report.show(
        "held-out wordings", ["row", *COLUMNS], [[n, *(r.get(c) for c in COLUMNS.values())] for n, r in shown.items()]
    )


if __name__ == "__main__":
    main()
