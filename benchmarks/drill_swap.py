"""Offsets swapped, loaded, spoiled and killed under load; writes build/bench/swap.json. Some ten minutes on two cores.

python -m benchmarks.drill_swap [--swaps 200] [--clients 16] [--cycles 50] [--kills 50]
"""

import argparse
import asyncio
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.support import report
from benchmarks.support.processes import WEIGHTS, Running, black_box
from benchmarks.swap.crashes import crash
from benchmarks.swap.hostile import hostile
from benchmarks.swap.loading import between_tokens_ms, memory_ratio
from benchmarks.swap.server import server
from benchmarks.swap.site import Site, make_site
from benchmarks.swap.streams import Crowd, asks, torn
from benchmarks.swap.swapping import Plan, swap


def main() -> None:
    args = _arguments()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        figures, rows = drill(Path(folder), args)
    settings = {name: value for name, value in vars(args).items() if name != "weights"}
    settings["seconds"] = round(time.monotonic() - began)
    report.show("swap drill", ("figure", "value"), list(figures.items()))
    report.show("refused checkpoints", ("kind", "sentence"), list(rows["hostile"].items()))
    print(report.write("swap", figures, settings, rows))


def drill(folder: Path, args: argparse.Namespace) -> tuple[dict[str, float], dict[str, Any]]:
    """Figures, and what lies behind them."""
    figures: dict[str, float] = {}
    rows: dict[str, Any] = {}
    site = make_site(folder, black_box=args.weights / "blackbox", base=args.weights / "base")
    with black_box("--ms-per-token", str(args.ms_per_token), weights=args.weights) as upstream:
        with server(site, upstream.url, folder / "state") as running:
            asyncio.run(_while_running(running, site, args, figures, rows))
        print("killing", flush=True)
        crashed = asyncio.run(crash(lambda: server(site, upstream.url, folder / "crash-state"), args.kills))
    figures["bad_restarts"] = len(crashed.bad)
    rows["crashes"] = {"kills": crashed.kills, "swaps": crashed.swaps, "found": crashed.reached, "bad": crashed.bad}
    return figures, rows


async def _while_running(
    running: Running, site: Site, args: argparse.Namespace, figures: dict[str, float], rows: dict[str, Any]
) -> None:
    print("swapping", flush=True)
    swapped = await swap(running.url, site, Plan(args.swaps, args.clients, args.tokens, 2, args.pause_s))
    figures["torn_streams"] = swapped.torn
    figures["wrong_version_streams"] = swapped.wrong
    figures["activate_ms_p99"] = report.quantile(swapped.swap_ms, 0.99)
    rows["swaps"] = {
        "swaps": len(swapped.swap_ms),
        "streams": len(swapped.answers),
        "tokens": sum(len(got.ids) for got in swapped.answers),
        "activate_ms_p50": report.median(swapped.swap_ms),
    }
    print("loading beside streams", flush=True)
    quiet, loading = await between_tokens_ms(running.url, site, args.clients, args.tokens, args.phase_s)
    figures["itl_ratio_during_load"] = loading / quiet
    rows["between_tokens_ms_p99"] = {"without_loads": quiet, "with_loads": loading}
    print("loading and unloading", flush=True)
    figures["memory_ratio_after_50"], sizes = await memory_ratio(running, args.cycles)
    rows["resident_mib"] = [round(size / 2**20, 1) for size in sizes]
    print("hostile checkpoints", flush=True)
    crowd = Crowd(running.url, asks(site.prompts, 2, args.tokens), 2)
    async with crowd:
        rows["hostile"] = await hostile(running.url, site.root)
    sentences = list(rows["hostile"].values())
    figures["hostile_taken"] = sentences.count("")
    figures["hostile_without_own_sentence"] = len(sentences) - len(set(sentences))
    figures["torn_streams"] += torn(crowd.answers)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--swaps", type=int, default=200)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=48, help="of one stream")
    parser.add_argument(
        "--ms-per-token",
        type=float,
        default=40.0,
        help="the black box's pace",
    )
    parser.add_argument("--pause-s", type=float, default=0.15, help="between two swaps")
    parser.add_argument("--phase-s", type=float, default=8.0, help="of each phase with and without loads")
    parser.add_argument("--cycles", type=int, default=50, help="loads and unloads")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="folder with blackbox/ and base/")
    return parser.parse_args()


if __name__ == "__main__":
    main()
