"""Front-ends, the engine and the parent killed under load, again and again; writes build/bench/processes.json.

python -m benchmarks.drill_processes [--kills 20] [--workers 2] [--clients 8]
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.crashing.kills import Killed, Load, kill_children, kill_parents, uncorrected
from benchmarks.support import report
from benchmarks.support.processes import WEIGHTS, Running, black_box
from benchmarks.swap.server import SERVED, server
from benchmarks.swap.site import make_site
from benchmarks.swap.streams import asks


def main() -> None:
    args = _arguments()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        figures, rows = drill(Path(folder), args)
    settings = {name: value for name, value in vars(args).items() if name != "weights"}
    settings["seconds"] = round(time.monotonic() - began)
    report.show("processes killed", ("figure", "value"), list(figures.items()))
    print(report.write("processes", figures, settings, rows))


def drill(folder: Path, args: argparse.Namespace) -> tuple[dict[str, float], dict[str, Any]]:
    """Figures, and what lies behind them."""
    site = make_site(folder, black_box=args.weights / "blackbox", base=args.weights / "base")
    load = Load(args.clients, asks(site.prompts, 2, args.tokens), SERVED)
    seen: dict[str, Killed] = {}
    with black_box("--ms-per-token", str(args.ms_per_token), weights=args.weights) as upstream:

        @contextmanager
        def start() -> Iterator[Running]:
            with server(site, upstream.url, folder / "state", workers=args.workers) as running:
                yield running

        with start() as running:
            for role in ("frontend", "engine"):
                print(f"killing: {role}", flush=True)
                seen[role] = asyncio.run(kill_children(running, role, args.kills, load))
        print("killing: parent", flush=True)
        seen["parent"] = asyncio.run(kill_parents(start, args.kills, load))
    return _figures(seen, load), {role: _row(killed) for role, killed in seen.items()}


def _figures(seen: dict[str, Killed], load: Load) -> dict[str, float]:
    every = list(seen.values())
    return {
        "kills": sum(killed.kills for killed in every),
        "uncorrected_tokens": sum(uncorrected(killed.answers, load.known) for killed in every),
        "orphans": sum(killed.orphans for killed in every),
        "lost_others": sum(killed.lost for killed in every),
        "ready_s_after_frontend": report.median(seen["frontend"].ready_s),
        "ready_s_after_engine": report.median(seen["engine"].ready_s),
    }


def _row(killed: Killed) -> dict[str, Any]:
    return {
        "kills": killed.kills,
        "answers": len(killed.answers),
        "torn": killed.torn(),
        "tokens": killed.tokens(),
        "ready_s": [round(seconds, 2) for seconds in killed.ready_s],
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="of each kind of process")
    parser.add_argument("--workers", type=int, default=2, help="front-ends")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=48, help="of one stream")
    parser.add_argument("--ms-per-token", type=float, default=20.0, help="the black box's pace")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="folder with blackbox/ and base/")
    return parser.parse_args()


if __name__ == "__main__":
    main()
