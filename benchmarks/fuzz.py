"""Spoilt inputs for everything that reads what others wrote: black boxes, checkpoints, clients.

python -m benchmarks.fuzz [--inputs 1200000] [--seed 1] [--only events,json]

The same seed draws the same inputs. An input that something fails on, in a way that is not documented, is kept in
build/fuzz, and the exit status is 1. Writes build/bench/fuzz.json.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.fuzzing import checkpoints, requests, streams
from benchmarks.fuzzing.target import Result, Target, run
from benchmarks.support import report


def all_targets() -> list[Target]:
    """Every one; their shares add up to 1."""
    return [*streams.targets(), *checkpoints.targets(), *requests.targets()]


def main() -> None:
    args = _arguments()
    wanted = set(filter(None, args.only.split(",")))
    results = []
    for target in all_targets():
        if not wanted or target.name in wanted:
            results.append(run(target, max(round(args.inputs * target.share), 1), args.seed))
            print(f"{target.name}: {results[-1].inputs:,} inputs, {results[-1].crashes} crashes", flush=True)
    columns = ("target", "inputs", "refused", "crashes", "s", "memory grew, MB")
    report.show("fuzz", columns, [[r.name, r.inputs, r.refused, r.crashes, r.seconds, r.growth_mb] for r in results])
    figures = figures_of(results)
    report.show("figures", ("figure", "value"), list(figures.items()))
    print(report.write("fuzz", figures, vars(args), [asdict(one) for one in results]))
    for result in results:
        for where, path in result.seen.items():
            print(f"{result.name}: {where}: {path}")
    sys.exit(1 if figures["crashes"] else 0)


def figures_of(results: Sequence[Result]) -> dict[str, Any]:
    """Of all targets together."""
    return {
        "inputs": sum(one.inputs for one in results),
        "crashes": sum(one.crashes for one in results),
        "largest_growth_mb": max((one.growth_mb for one in results), default=0.0),
        "seconds": sum(one.seconds for one in results),
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=1_200_000, help="of all targets together")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="targets by name, with commas")
    return parser.parse_args()


if __name__ == "__main__":
    main()
