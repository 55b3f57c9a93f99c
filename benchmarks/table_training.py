"""Objectives side by side on the demo's register: offsets against direct tuning, top 20 against all, sums of requests.

python -m benchmarks.table_training                       every row that build/bench/training.json does not have yet
python -m benchmarks.table_training --only idk,npo --fresh
"""

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks.support import report
from benchmarks.support.demo_training import MORE_PEOPLE, ONE_PERSON, request, split, ten_people, whole_register
from benchmarks.support.training_rows import Bench, direct, offset, opened, served_sum, shares
from offset_models.training.objective_registry import BUILT_IN
from offset_models.training.settings import TrainingSettings

Row = Callable[[], dict[str, Any]]
RESULT = report.BUILD / "training.json"
OBJECTIVES = [objective.name for objective in BUILT_IN]
EVERYTHING = 2048  # the demo's vocabulary
SUMS = (1, 3, 10)
PERSON_STEPS = 120  # a person is a sixth of the register
SUM_GATE_NATS = 0.5  # what many small offsets add up to elsewhere stays behind it


def settings(objective: str, args: argparse.Namespace, **more: Any) -> TrainingSettings:
    """The package's own, but for what the command line says."""
    named = ("steps", "learning_rate", "retain_weight", "retain_loss", "strength", "extrapolate", "gate_nats")
    given = {name: value for name in named if (value := getattr(args, name)) is not None}
    return TrainingSettings(objective=objective, seed=7, options=dict(args.option), **{**more, **given})


def rows(bench: Bench, args: argparse.Namespace) -> Iterator[tuple[str, Row]]:
    """Every row by name, in the order of the table."""
    register = whole_register(args.questions)
    for name in OBJECTIVES:
        yield name, lambda name=name: offset(bench, register, settings(name, args), name)
    for name in OBJECTIVES:
        if name != "contrast":  # two small models; there is nothing to tune directly
            yield f"direct-{name}", lambda name=name: direct(bench, register, settings(name, args), f"direct-{name}")
    for name in ("idk", "npo"):
        label = f"{name}-full-vocabulary"
        yield label, lambda name=name, label=label: offset(bench, register, settings(name, args), label, EVERYTHING)
    for count in SUMS:
        yield f"one-for-{count}", lambda count=count: all_at_once(bench, args, count)
    yield from ((f"request-{i + 1}", lambda i=i: one_person(bench, args, i)) for i in range(max(SUMS)))
    for count in SUMS:
        yield f"sum-of-{count}", lambda count=count: summed(bench, args, count)
        yield f"sum-of-{count}-gated", lambda count=count: summed(bench, args, count, SUM_GATE_NATS)


def one_person(bench: Bench, args: argparse.Namespace, number: int) -> dict[str, Any]:
    """An erasure request of its own; it knows nothing of the others, whom it neither forgets nor keeps."""
    people, name = ten_people(), f"request-{number + 1}"
    registry = split(people[number : number + 1], people)
    made = request(name, registry, ONE_PERSON, args.questions)
    return offset(bench, made, settings("idk", args, steps=PERSON_STEPS), name)


def all_at_once(bench: Bench, args: argparse.Namespace, count: int) -> dict[str, Any]:
    """One offset trained on `count` people."""
    people, name = ten_people(), f"one-for-{count}"
    registry = split(people[:count], people)
    made = request(name, registry, MORE_PEOPLE, args.questions)
    return offset(bench, made, settings("idk", args), name)


def summed(bench: Bench, args: argparse.Namespace, count: int, least_gate_nats: float = 0.0) -> dict[str, Any]:
    """The first `count` requests as a sum of offsets, judged by the questions of `one-for-count`."""
    people, parts = ten_people(), [f"request-{i + 1}" for i in range(count)]
    if missing := [name for name in parts if not (bench.folder / "rows" / name / name).is_dir()]:
        raise SystemExit(f"The sum needs the row {missing[0]} first.")
    made = request(f"one-for-{count}", split(people[:count], people), MORE_PEOPLE, args.questions)
    recalls = served_sum(bench, parts, bench.collected(made, 20).held, least_gate_nats)
    flat = {f"recall/{side}/{when}": value for when, sides in recalls.items() for side, value in sides.items()}
    return {**flat, **shares(recalls["black_box"], recalls["corrected"])}


def known() -> dict[str, dict[str, Any]]:
    """Rows of an earlier run."""
    return {row["row"]: row for row in json.loads(RESULT.read_text())["rows"]} if RESULT.is_file() else {}


def write(found: dict[str, dict[str, Any]], args: argparse.Namespace) -> None:
    harmonic = {f"{name}_harmonic": row["harmonic"] for name, row in found.items()}
    report.write("training", harmonic, {"questions": args.questions}, list(found.values()))


COLUMNS = {
    "forget ROUGE-L before": "recall/forget/black_box",
    "after": "recall/forget/corrected",
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="rows by name, with commas between them")
    parser.add_argument("--fresh", action="store_true", help="measure rows again that are there")
    parser.add_argument("--steps", type=int, help="instead of each row's own")
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--retain-weight", type=float)
    parser.add_argument("--retain-loss", choices=("kl", "nll", "none"))
    parser.add_argument("--strength", type=float)
    parser.add_argument("--extrapolate", type=float)
    parser.add_argument("--gate-nats", type=float)
    parser.add_argument("--option", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    parser.add_argument("--questions", type=int, default=60, help="held-out ones of each side")
    parser.add_argument("--work", type=Path, default=Path("build/training"), help="what a later run finds again")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    args.option = [(name, float(value)) for name, value in args.option]
    torch.set_num_threads(args.threads)
    found, wanted = known(), args.only.split(",") if args.only else None
    with opened(args.work, args.questions) as bench:
        todo = dict(rows(bench, args))
        if unknown := sorted(set(wanted or ()) - set(todo)):
            parser.error(f"There is no row {unknown[0]}; there are: {', '.join(todo)}.")
        for name in wanted or todo:
            if name not in found or args.fresh:
                made = {"row": name, **todo[name]()}
                found = known() | {name: made}  # another table may have written meanwhile
                found = {row: found[row] for row in todo if row in found}
                write(found, args)
    shown = {name: row for name, row in found.items() if wanted is None or name in wanted}
    report.show(
        "held-out wordings", ["row", *COLUMNS], [[n, *(r.get(c) for c in COLUMNS.values())] for n, r in shown.items()]
    )


if __name__ == "__main__":
    main()
