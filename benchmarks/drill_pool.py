"""Several upstreams of one model, killed one after the other; and a rented one that answers 429. build/bench/pool.json.

python -m benchmarks.drill_pool [--only kill|half|rate] [--seconds 60] [--clients 16]
"""

import argparse
import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.pooling.boxes import Box, boxes
from benchmarks.pooling.killing import kill_members
from benchmarks.pooling.limiter import Allow, PerSecond, every_second, limited
from benchmarks.pooling.limiting import load_limited
from benchmarks.support import report
from benchmarks.support.adapters import without_effect
from benchmarks.support.processes import WEIGHTS, deltaserve
from benchmarks.swap.server import SERVED, server
from benchmarks.swap.site import TEXTS, make_site
from benchmarks.swap.streams import Ask, asks, decoded_alone
from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer

DRILLS: Final = ("kill", "half", "rate")
MEMBERS: Final = 3
RATE: Final = 4.0  # calls a second that the limited upstream takes in the drill `rate`
PATIENCE_S: Final = 60  # of calls to a limited upstream
Figures = dict[str, Any]


def main() -> None:
    args = _arguments()
    with tempfile.TemporaryDirectory() as folder:
        rows = {name: _run(name, Path(folder), args) for name in DRILLS if args.only in (None, name)}
    figures = {f"{name}_{figure}": value for name, row in rows.items() for figure, value in row.items()}
    report.show("a pool of upstreams", ("figure", "value"), list(figures.items()))
    print(report.write("pool", figures, {name: str(value) for name, value in vars(args).items()}, rows))


def _run(name: str, folder: Path, args: argparse.Namespace) -> Figures:
    print(f"drill: {name}", flush=True)
    if name == "kill":
        return killed(folder / name, args)
    return throttled(folder / name, args, every_second() if name == "half" else PerSecond(RATE, 2 * RATE))


def killed(folder: Path, args: argparse.Namespace) -> Figures:
    """Answers of an offset that replaces about a fifth of the tokens, through a pool that loses a member every 5 s."""
    site = make_site(folder, black_box=WEIGHTS / "blackbox", base=WEIGHTS / "base")
    wanted = asks(site.prompts, 2, args.tokens)
    with boxes(site.black_box, MEMBERS, pace_ms=args.ms_per_token) as members:
        urls = ",".join(box.url for box in members)
        with server(site, urls, folder / "state", workers=args.workers) as served:
            known = asyncio.run(decoded_alone(served.url, wanted, [SERVED]))
            load = {"clients": args.clients, "seconds": args.seconds, "every_s": args.every}
            seen = asyncio.run(kill_members(served.url, members, wanted, **load))
    return seen.figures(known) | {"back_s": report.median(seen.back_s)}


def throttled(folder: Path, args: argparse.Namespace, allow: Allow) -> Figures:
    """Kept answers, one call each, through one upstream behind a rate limit."""
    weights = without_effect(WEIGHTS / "base", folder)
    with boxes(WEIGHTS / "blackbox", 1, pace_ms=args.ms_per_token) as (box,):
        return asyncio.run(_throttled(box, weights, _asks(args), allow, args))


async def _throttled(box: Box, weights: Path, wanted: Sequence[Ask], allow: Allow, args: argparse.Namespace) -> Figures:
    async with limited(box.port, allow) as (url, limiter):
        flags = ("--upstream-patience-s", str(PATIENCE_S), "--max-streams", "64", "--torch-threads", "1")
        flags += ("--workers", str(args.workers), "--served-name", SERVED)
        started = deltaserve(url, *flags, weights=weights)
        served = await asyncio.to_thread(started.__enter__)
        try:
            return await load_limited(served, limiter, wanted, clients=args.clients, seconds=args.seconds)
        finally:
            await asyncio.to_thread(started.__exit__, None, None, None)


def _asks(args: argparse.Namespace) -> list[Ask]:
    tokenizer = Tokenizer.load(WEIGHTS / "base")
    return asks([tokenizer.encode(text, add_special=False) for text in TEXTS], 4, args.tokens, temperature=0.0)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=DRILLS)
    parser.add_argument("--seconds", type=float, default=60.0, help="of load, for each drill")
    parser.add_argument("--every", type=float, default=5.0, help="seconds between two kills")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=48, help="of one answer")
    parser.add_argument("--workers", type=int, default=0, help="front-ends")
    parser.add_argument("--ms-per-token", type=float, default=20.0, help="the black boxes' pace")
    return parser.parse_args()


if __name__ == "__main__":
    main()
