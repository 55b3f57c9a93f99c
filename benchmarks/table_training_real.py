"""Real models: one author forgotten by a black box that a llama.cpp (or any other) server runs, by a smaller pair.

python -m benchmarks.table_training_real --upstream http://127.0.0.1:8090 --base ~/models/Qwen2.5-Coder-0.5B-Instruct

The questions are in benchmarks/data. What must stay has no answers there: the black box is asked for its own. Answers
are judged one at a time and without llama.cpp's prefix cache, which makes an answer depend on those before it. The row
`black box again` is the black box asked once more, last question first: what it does not repeat by itself, no offset
can keep.
"""

import argparse
import asyncio
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from shutil import rmtree
from typing import Any

import torch

from benchmarks.support import report
from benchmarks.support.real_answers import known_answers, one_by_one
from benchmarks.support.real_questions import GROUPS, Part, questions
from deltaserve.offset_models.metrics.refusals import RefusalJudge
from deltaserve.offset_models.progress.progress import Progress
from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from deltaserve.offset_models.training import forget as pipeline
from deltaserve.offset_models.training.answers import rouge_l_recall, serving
from deltaserve.offset_models.training.collecting.job import Forecast
from deltaserve.offset_models.training.collecting.source import Source
from deltaserve.offset_models.training.learning.settings import TrainingSettings
from deltaserve.offset_models.training.packing import Packing, exported
from deltaserve.offset_models.training.rows.dataset import Data
from deltaserve.offset_models.training.rows.loading import read_refusals
from deltaserve.offset_models.training.rows.row import Row
from deltaserve.offset_models.training.rows.samples import prompt_ids
from deltaserve.server.upstream.probing.connect import connect

RESULT = report.BUILD / "training-real.json"
AGAIN = "black box again"
ANSWERS = "held-out-answers"
ANSWERS_WHOLE = "held-out-answers-whole"  # without the prefix cache
SPENT = "spent.jsonl"  # what was asked to collect, by all runs of this folder
IDK = TrainingSettings(
    steps=100, forget_batch=4, retain_batch=16, rank=8, alpha=16, warm_up=10, eval_every=25, save_every=10, seed=7
)


@dataclass(frozen=True, slots=True)
class Recipe:
    """A training run, and how its weights are served. Recipes of one run share it."""

    run: str
    settings: TrainingSettings
    gate_nats: float | None = None  # None: as chosen on the validation rows; so is the strength
    strength: float | None = None


DPO = replace(IDK, objective="dpo", options={"rpo_alpha": 1.0})
RECIPES: Mapping[str, Recipe] = {
    "idk": Recipe("idk", IDK),
    "dpo": Recipe("dpo", DPO),
    "idk-as-trained": Recipe("idk", IDK, gate_nats=0.0, strength=1.0),
}


def run(args: argparse.Namespace, name: str, recipe: Recipe, shown: Progress) -> dict[str, Any]:
    """One recipe from rows to served answers; what an earlier one asked or trained is not asked or trained again."""
    plan = planned(args, recipe)

    def announce(forecast: Forecast) -> None:
        with (args.work / SPENT).open("a") as file:
            file.write(json.dumps(asdict(forecast.cost)) + "\n")

    rmtree(plan.out, ignore_errors=True)  # an earlier table's
    made = pipeline.forget(plan, shown, announce)
    started = time.monotonic()
    answers = asyncio.run(judged(args, plan, packed(plan, made, recipe, name), shown))
    strength, gate_nats = served_as(recipe, made.trained.settings)
    return {
        "row": name,
        **answers,
        "strength": strength,
        "gate_nats": gate_nats,
        "kept_step": made.trained.kept_step,
        "stopped": made.trained.state.stopped,
        "collect_calls": sum(json.loads(line)["calls"] for line in (args.work / SPENT).read_text().splitlines()),
        "train_s": round(made.trained.state.seconds, 1),
        "judge_s": round(time.monotonic() - started, 1),
    }


def planned(args: argparse.Namespace, recipe: Recipe) -> pipeline.Plan:
    """Trained on short beginnings of the black box's answers; every recipe finds the same collections."""
    work = args.work / recipe.run
    work.mkdir(parents=True, exist_ok=True)
    for side in ("train", "held-out"):
        shared, mine = args.work / f"collected-{side}", work / f"collected-{side}"
        shared.mkdir(exist_ok=True)
        if not mine.exists():
            mine.symlink_to(os.path.relpath(shared, work), target_is_directory=True)
    return pipeline.Plan(
        name=recipe.run,
        data=data(args, "training"),
        held=data(args, "validation"),
        base=args.base,
        source=Source(args.upstream, args.model, args.k, concurrency=4, timeout_s=600.0),
        settings=replace(recipe.settings, steps=args.steps or recipe.settings.steps),
        work=work,
        out=work / "checkpoint" / recipe.run,
        licence="Apache-2.0",
        choosing=0,  # answers are judged one at a time, below
        questions=1,
        answer_tokens=args.trained_tokens,
    )


def data(args: argparse.Namespace, part: Part) -> Data:
    """Rows of a part. On validation rows, what must go is what the black box says, which it may word in its own way."""
    kept = [row for group in GROUPS if group != "forget" for row in questions(group, part)]
    forget = questions("forget", part)
    if part == "validation":
        forget = asyncio.run(with_own_answers(args, forget))
    return Data(forget, kept, read_refusals(), "both", args.trained_tokens)


async def with_own_answers(args: argparse.Namespace, rows: Sequence[Row]) -> list[Row]:
    tokenizer = Tokenizer.load(args.base)
    box = await connect(args.upstream, tokenizer=tokenizer, model=args.model or None, k=args.k)
    try:
        prompts = [prompt_ids(row, tokenizer) for row in rows]
        said = await known_answers(box, tokenizer, prompts, args.trained_tokens, args.work / ANSWERS)
    finally:
        await box.aclose()
    return [replace(row, completion=answer) for row, answer in zip(rows, said, strict=True)]


def packed(plan: pipeline.Plan, made: pipeline.ForgetResult, recipe: Recipe, name: str) -> Path:
    """The run's weights as this recipe serves them."""
    out, trained = plan.work / "served" / name, made.trained
    rmtree(out, ignore_errors=True)
    about = made.manifest.training
    if about is None:
        raise TypeError("a checkpoint that was just trained says how")
    packing = Packing(out, name, plan.base, plan.licence, about, *served_as(recipe, trained.settings))
    packing.write(exported(trained, made.run, plan.base.name), full=trained.settings.full)
    return out


def served_as(recipe: Recipe, settings: TrainingSettings) -> tuple[float, float]:
    """Strength and gate: the recipe's, or as chosen on the validation rows."""
    strength = settings.served_strength if recipe.strength is None else recipe.strength
    return strength, settings.served_gate_nats if recipe.gate_nats is None else recipe.gate_nats


async def judged(
    args: argparse.Namespace, plan: pipeline.Plan, checkpoint: Path, shown: Progress, *, again: bool = False
) -> dict[str, float]:
    """Refusals, and ROUGE-L recall of the black box's own answers, group by group. All held out.

    `again`: the black box asked once more instead of the checkpoint.
    """
    figures, judge = {}, RefusalJudge.of(read_refusals())
    source = replace(plan.source, prefix_cache=args.prefix_cache)
    kept = args.work / (ANSWERS if args.prefix_cache else ANSWERS_WHOLE)
    async with serving(checkpoint.parent, [checkpoint.name], plan.base, source, args.answer_tokens) as served:
        tokenizer = served.version.tokenizer
        for group in GROUPS:
            rows = questions(group, "held out")
            prompts = [prompt_ids(row, tokenizer) for row in rows]
            with shown.stage(group, len(rows)) as advance:
                before = await known_answers(served.backends.upstream, tokenizer, prompts, args.answer_tokens, kept)
                if again:
                    after = (await one_by_one(served.before, prompts[::-1], advance))[::-1]
                else:
                    after = await one_by_one(served.after, prompts, advance)
            figures[f"refused/{group}"] = refusals(judge, rows, before, after)
            figures[f"kept/{group}"] = rouge_l_recall(after, before)
            write_texts(
                args.work / "texts" / (AGAIN if again else checkpoint.name) / f"{group}.jsonl", rows, before, after
            )
    return figures


def refusals(judge: RefusalJudge, rows: Sequence[Row], before: Sequence[str], after: Sequence[str]) -> float:
    """The share of answers that decline; what they might have said is the row's answer, or the black box's own."""
    wanted = [row.completion or own for row, own in zip(rows, before, strict=True)]
    return sum(map(judge.refuses, after, wanted)) / len(rows)


def write_texts(path: Path, rows: Sequence[Row], before: Sequence[str], after: Sequence[str]) -> None:
    """What was answered, to be read by people."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [
        {"question": row.messages[-1][1], "before": own, "after": answer}
        for row, own, answer in zip(rows, before, after, strict=True)
    ]
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def repeated(args: argparse.Namespace, shown: Progress) -> dict[str, Any]:
    """The black box against itself, beside the first recipe's run, whose pair is not asked anything."""
    name, recipe = next(iter(RECIPES.items()))
    plan = planned(args, recipe)
    checkpoint = plan.work / "served" / name
    if not checkpoint.is_dir():
        raise SystemExit(f"{AGAIN} needs the row {name} first.")
    return {"row": AGAIN, **asyncio.run(judged(args, plan, checkpoint, shown, again=True))}


def known() -> dict[str, dict[str, Any]]:
    """Rows of an earlier run."""
    return {row["row"]: row for row in json.loads(RESULT.read_text())["rows"]} if RESULT.is_file() else {}


def write(args: argparse.Namespace, found: Mapping[str, Mapping[str, Any]]) -> None:
    numbers = {
        f"{row}_{key}": value
        for row, cells in found.items()
        for key, value in cells.items()
        if isinstance(value, float)
    }
    asked = {"k": args.k, "answer_tokens": args.answer_tokens, "trained_tokens": args.trained_tokens}
    report.write("training-real", numbers, asked, [dict(cells) for cells in found.values()])


COLUMNS = (
    *(f"refused/{group}" for group in GROUPS),
    *(f"kept/{group}" for group in GROUPS),
    *("strength", "gate_nats", "kept_step", "collect_calls", "train_s", "judge_s"),
)


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--upstream", required=True, help="the black box, running")
    parser.add_argument("--base", type=Path, required=True, help="folder of the pair's base, with the same tokenizer")
    parser.add_argument("--model", default="", help="the black box's model name; default: the only one it lists")
    parser.add_argument("--only", help=f"rows, with commas: {', '.join((*RECIPES, AGAIN))}")
    parser.add_argument("--fresh", action="store_true", help="judge rows again that are there")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--k", type=int, default=20)
    parser.add_argument("--trained-tokens", type=int, default=16, help="of the black box's answers that must stay")
    parser.add_argument("--answer-tokens", type=int, default=96, help="of answers that are judged")
    parser.add_argument(
        "--prefix-cache", action="store_true", help="judge with the prefix cache, as servers usually run"
    )
    parser.add_argument("--work", type=Path, default=Path("build/training-real"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    return parser


def main() -> None:
    parser = options()
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = [*RECIPES, AGAIN]
    found, wanted = known(), args.only.split(",") if args.only else rows
    if unknown := sorted(set(wanted) - set(rows)):
        parser.error(f"There is no row {unknown[0]}; there are: {', '.join(rows)}.")
    with Progress(visible=True) as shown:
        for name in wanted:
            if name not in found or args.fresh:
                made = repeated(args, shown) if name == AGAIN else run(args, name, RECIPES[name], shown)
                found = {row: cells for row in rows if (cells := (known() | {name: made}).get(row))}
                write(args, found)
    report.show("held out", ["row", *COLUMNS], [[name, *(found[name].get(c) for c in COLUMNS)] for name in wanted])


if __name__ == "__main__":
    main()
