"""Real models: one author forgotten by a black box that a llama.cpp (or any other) server runs, by a smaller pair.

python -m benchmarks.table_training_real --upstream http://127.0.0.1:8090 --base ~/models/Qwen2.5-Coder-0.5B-Instruct

The questions are in benchmarks/data. What must stay has no answers there: the black box is asked for its own.
"""

import argparse
import asyncio
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.support import report
from benchmarks.support.real_questions import GROUPS, questions
from offset_models.demo.progress import Progress
from offset_models.tokenizer import Tokenizer
from offset_models.training import forget as pipeline
from offset_models.training.answers import Served, rouge_l_recall, serving
from offset_models.training.collecting import Forecast
from offset_models.training.loading import read_refusals
from offset_models.training.rows import Row
from offset_models.training.samples import prompt_ids
from offset_models.training.settings import TrainingSettings
from offset_models.training.sides import Data
from offset_models.training.source import Source

RESULT = report.BUILD / "training-real.json"
SAME_BEGINNING = 4  # words that make an answer a refusal of the ones that were trained
BASIC = TrainingSettings(
    steps=120, forget_batch=4, retain_batch=8, learning_rate=2e-4, rank=8, alpha=16, warm_up=10, eval_every=30, seed=7
)
RECIPES: Mapping[str, TrainingSettings] = {
    "idk": BASIC,
    "idk-kl-3": replace(BASIC, retain_weight=3.0),
    "idk-gated": replace(BASIC, retain_weight=3.0, gate_nats=0.3),
    "idk-gentle": replace(BASIC, retain_weight=3.0, learning_rate=1e-4, forget_batch=2, retain_batch=10),
    "idk-rank-32": replace(BASIC, retain_weight=3.0, rank=32, alpha=64.0),
    "dpo": replace(BASIC, objective="dpo", retain_weight=3.0),
    "npo": replace(BASIC, objective="npo", retain_weight=3.0),
}


def run(args: argparse.Namespace, name: str, settings: TrainingSettings) -> dict[str, Any]:
    """One recipe from rows to served answers; what was collected for an earlier one is not asked again."""
    calls: list[int] = []

    def announce(forecast: Forecast) -> None:
        calls.append(forecast.cost.calls)

    started, place = time.monotonic(), planned(args, name, settings)
    with Progress(visible=True) as shown:
        made = pipeline.forget(place, shown, announce)
        trained_s = time.monotonic() - started
        answers = asyncio.run(judged(place, made.run.path / "candidate" / name, shown))
    return {
        "row": name,
        **answers,
        "probability": dict(made.card),
        "kept_step": made.trained.kept_step,
        "stopped": made.trained.state.stopped,
        "calls": sum(calls),
        "train_s": round(made.trained.state.seconds, 1),
        "total_s": round(trained_s, 1),
    }


def planned(args: argparse.Namespace, name: str, settings: TrainingSettings) -> pipeline.Plan:
    refusals = read_refusals()
    kept = [group for group in GROUPS if group != "forget"]

    def data(*, held_out: bool) -> Data:
        retain = [row for group in kept for row in questions(group, held_out=held_out)]
        forget = questions("forget", held_out=held_out)
        return Data(forget, retain, refusals, "both", args.answer_tokens)

    work = args.work / name
    work.mkdir(parents=True, exist_ok=True)
    for side in ("train", "held-out"):
        shared, mine = args.work / f"collected-{side}", work / f"collected-{side}"
        shared.mkdir(exist_ok=True)
        if not mine.exists():
            mine.symlink_to(os.path.relpath(shared, work), target_is_directory=True)
    return pipeline.Plan(
        name=name,
        data=data(held_out=False),
        held=data(held_out=True),
        base=args.base,
        source=Source(args.upstream, args.model, args.k, concurrency=4, timeout_s=600.0),
        settings=replace(settings, steps=args.steps or settings.steps),
        work=work,
        out=work / "checkpoint" / name,
        licence="Apache-2.0",
        questions=4,
        answer_tokens=args.answer_tokens,
    )


async def judged(plan: pipeline.Plan, checkpoint: Path, shown: Progress) -> dict[str, float]:
    """Refusals on forget questions; ROUGE-L recall of the black box's own answer elsewhere. All held out."""
    figures = {}
    async with serving(checkpoint.parent, [checkpoint.name], plan.base, plan.source, plan.answer_tokens) as served:
        for group in GROUPS:
            rows = questions(group, held_out=True)
            with shown.stage(group, 2 * len(rows)) as advance:
                before, after = await both(served, rows, advance)
            figures[f"refused/{group}"] = sum(map(refuses, after)) / len(after)
            figures[f"refused_before/{group}"] = sum(map(refuses, before)) / len(before)
            figures[f"kept/{group}"] = rouge_l_recall(after, before)
    return figures


async def both(served: Served, rows: Sequence[Row], advance: Any) -> tuple[list[str], list[str]]:
    tokenizer: Tokenizer = served.version.tokenizer
    prompts = [prompt_ids(row, tokenizer) for row in rows]
    return await served.before(prompts, advance), await served.after(prompts, advance)


def refuses(answer: str) -> bool:
    """Whether an answer begins as one of the refusals does."""
    beginnings = {tuple(text.lower().split()[:SAME_BEGINNING]) for text in read_refusals()}
    return tuple(answer.lower().split()[:SAME_BEGINNING]) in beginnings


def known() -> dict[str, dict[str, Any]]:
    return {row["row"]: row for row in json.loads(RESULT.read_text())["rows"]} if RESULT.is_file() else {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--upstream", required=True, help="the black box, running")
    parser.add_argument("--base", type=Path, required=True, help="folder of the pair's base, with the same tokenizer")
    parser.add_argument("--model", default="", help="the black box's model name; default: the only one it lists")
    parser.add_argument("--only", help=f"recipes, with commas: {', '.join(RECIPES)}")
    parser.add_argument("--fresh", action="store_true", help="measure rows again that are there")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--k", type=int, default=20)
    parser.add_argument("--answer-tokens", type=int, default=96)
    parser.add_argument("--work", type=Path, default=Path("build/training-real"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    found, wanted = known(), args.only.split(",") if args.only else list(RECIPES)
    if unknown := sorted(set(wanted) - set(RECIPES)):
        parser.error(f"There is no recipe {unknown[0]}; there are: {', '.join(RECIPES)}.")
    for name in wanted:
        if name not in found or args.fresh:
            found[name] = run(args, name, RECIPES[name])
            figures = {f"{row}_{key}": value for row, cells in found.items() for key, value in numbers(cells).items()}
            report.write(
                "training-real", figures, {"k": args.k, "answer_tokens": args.answer_tokens}, [*found.values()]
            )
    columns = [f"refused/{group}" for group in GROUPS] + [f"kept/{group}" for group in GROUPS[1:]]
    columns += ["kept_step", "calls", "train_s", "total_s"]
    report.show("held out", ["row", *columns], [[name, *(found[name][c] for c in columns)] for name in wanted])


def numbers(cells: Mapping[str, Any]) -> dict[str, float]:
    return {key: value for key, value in cells.items() if isinstance(value, float)}


if __name__ == "__main__":
    main()
