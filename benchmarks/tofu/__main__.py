"""TOFU's table: an offset for every objective, beside retraining and direct tuning, measured through the server.

python -m benchmarks.tofu --data DIR            every stage that build/tofu does not have yet; build/bench/tofu.json
python -m benchmarks.tofu --data DIR --fresh    from nothing

A black box of a few million parameters reads forget05 and 800 retained rows; a smaller pair, whose base never read
the forget set, is trained against it through its API. See docs/evaluation.md, "TOFU".
"""

import argparse
import asyncio
import os
import sys
import time
from pathlib import Path
from shutil import rmtree

from benchmarks.tofu.bench import Bench
from benchmarks.tofu.scale import SCALES
from benchmarks.tofu.stages import Runner, graph
from benchmarks.tofu.table import show
from deltaserve.errors import DeltaserveError


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of TOFU's files")
    parser.add_argument("--work", type=Path, default=Path("build/tofu"), help="what a later run finds again")
    parser.add_argument("--scale", choices=tuple(SCALES), default="full")
    parser.add_argument("--slots", type=int, default=len(os.sched_getaffinity(0)), help="stages at a time")
    parser.add_argument("--only", help="stages by name, with commas between; those they need are run too")
    parser.add_argument("--fresh", action="store_true", help="forget what is there")
    parser.add_argument("--stage", help=argparse.SUPPRESS)  # what a run starts as a process of its own
    args = parser.parse_args()
    bench = Bench(args.data.resolve(), args.work.resolve(), SCALES[args.scale])
    try:
        if args.stage is not None:
            return _stage(bench, args.stage)
        bench.subset  # noqa: B018  (what is wrong with the data is said at once)
    except DeltaserveError as error:
        print(error.message, file=sys.stderr)
        return 2
    if args.fresh:
        rmtree(bench.work, ignore_errors=True)
    return _all(bench, args)


def _stage(bench: Bench, name: str) -> int:
    import torch

    torch.set_num_threads(1)
    graph(bench)[name].run(bench)
    return 0


def _all(bench: Bench, args: argparse.Namespace) -> int:
    stages, began = graph(bench), time.monotonic()
    names = set(stages) if args.only is None else set(args.only.split(","))
    if unknown := sorted(names - set(stages)):
        print(f"There is no stage {unknown[0]}; there are: {', '.join(stages)}.", file=sys.stderr)
        return 2
    while more := {need for name in names for need in stages[name].needs} - names:
        names |= more
    runner = Runner(bench, args.scale, args.slots)
    failed = asyncio.run(runner.run({name: stage for name, stage in stages.items() if name in names}))
    show(bench, args.scale, runner, failed, time.monotonic() - began)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
