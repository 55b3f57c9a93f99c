"""A name is enough: `deltaserve forget --about` on a real black box, judged by questions that chose nothing.

python -m benchmarks.about --upstream http://127.0.0.1:8090 --base ~/models/Qwen2.5-Coder-0.5B-Instruct

For each target the command makes an offset from its name alone; then every question of benchmarks/data/about is asked
of the black box and of the offset in front of it. What was asked, trained or answered is not asked, trained or answered
again. `--checkpoint DIR --only TARGET` judges a checkpoint that is there. `--demo` judges the demo's person instead:
by name against the rows of docs/examples, and two requests served as a sum.
"""

import argparse
import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.about import demo
from benchmarks.about.judging import Answer, Where, as_lines, by_form, figures, judged
from benchmarks.about.making import Request, made
from benchmarks.about.probes import TARGETS, probes_of
from benchmarks.about.table import markdown, mean_row
from benchmarks.support import report
from deltaserve.offset_models.progress.progress import Progress
from deltaserve.offset_models.training.collecting.source import Source

NAME = "about"


def run(args: argparse.Namespace, target: str, progress: Progress) -> dict[str, Any]:
    """One target, from its name to figures."""
    took: Mapping[str, Any] = {}
    if args.checkpoint is None:
        about, out = TARGETS[target].name, args.work / "offsets"
        request = Request(target, about, args.upstream, args.base, out, args.minutes, args.calls, args.more)
        took, checkpoint = made(request), request.checkpoint
    else:
        checkpoint = args.checkpoint
    probes = probes_of(target, args.limit)
    answers = asyncio.run(judged(where(args, checkpoint), TARGETS[target], probes, progress))
    write_texts(args.work / "texts" / f"{target}-{checkpoint.name}.jsonl", answers)
    return {"row": target, **figures(answers), "forms": by_form(answers), **took}


def where(args: argparse.Namespace, checkpoint: Path) -> Where:
    source = Source(args.upstream, args.model, args.k, timeout_s=600.0, prefix_cache=None)
    judging = args.work / "judging"
    judging.mkdir(parents=True, exist_ok=True)
    return Where(checkpoint, args.base, source, judging, args.answer_tokens)


def write_texts(path: Path, answers: Sequence[Answer]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in as_lines(answers)))


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--upstream", help="the black box, running; --demo without it starts the demo's")
    parser.add_argument("--base", type=Path, help="folder of the pair's base, with the same tokenizer")
    parser.add_argument("--model", default="", help="the black box's model name; default: the only one it lists")
    parser.add_argument("--only", help=f"targets, with commas: {', '.join(TARGETS)}; or rows of --demo")
    parser.add_argument("--checkpoint", type=Path, help="judge this one, for the one target of --only")
    parser.add_argument("--limit", type=int, help="at most so many questions of each group: a quick look")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--calls", type=int, default=1500)
    parser.add_argument("--more", nargs="*", default=[], help="other options of forget: --more=--kind=person")
    parser.add_argument("--k", type=int, default=20)
    parser.add_argument("--answer-tokens", type=int, default=64)
    parser.add_argument("--demo", action="store_true", help="the demo's rows of the table")
    parser.add_argument("--work", type=Path, default=Path("build/about"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    return parser


def main() -> None:
    parser = options()
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.demo:
        demo.main(args)
        return
    if not args.upstream or not args.base:
        parser.error("Give --upstream and --base, or --demo.")
    targets = args.only.split(",") if args.only else list(TARGETS)
    if unknown := sorted(set(targets) - set(TARGETS)):
        parser.error(f"There is no target {unknown[0]}; there are: {', '.join(TARGETS)}.")
    if args.checkpoint is not None and len(targets) != 1:
        parser.error("--checkpoint is judged for one target: name it with --only.")
    rows = []
    with Progress(visible=True) as progress:
        for target in targets:
            rows.append(run(args, target, progress))
            write(args, rows)
    print(markdown(rows))


def write(args: argparse.Namespace, rows: Sequence[Mapping[str, Any]]) -> None:
    cells = {name: value for name, value in mean_row(rows).items() if isinstance(value, float)}
    asked = {"k": args.k, "answer_tokens": args.answer_tokens, "minutes": args.minutes, "calls": args.calls}
    report.write(NAME, cells, asked, [dict(row) for row in rows])


if __name__ == "__main__":
    main()
