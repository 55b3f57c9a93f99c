"""Clients that leave at random moments, more of them than there is room for, and a server told to end under streams.

python -m benchmarks.drill_clients [--only leaving|overload|ending] [--clients 1000] [--seconds 30] [--times 50]

Writes build/bench/clients.json.
"""

import argparse
import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from benchmarks.crowds.ending import end_under_load
from benchmarks.crowds.leaving import leave_at_random
from benchmarks.crowds.overload import crowd
from benchmarks.pooling.limiter import limited
from benchmarks.support import report
from benchmarks.support.processes import WEIGHTS, Running, black_box
from benchmarks.swap.server import server
from benchmarks.swap.site import Site, make_site
from benchmarks.swap.streams import asks
from deltaserve.server.serving.admission.keys_file import digest_of

PLACES: Final = 8  # under overload; as many may wait
GRACE_S: Final = 60
HEAVY, LIGHT = "heavy-key", "light-key"
Figures = dict[str, Any]


async def leaving(site: Site, upstream: str, folder: Path, args: argparse.Namespace) -> Figures:
    """A proxy counts the calls that the black box answers."""
    async with limited(urlsplit(upstream).port or 0, lambda: True) as (url, proxy):
        bounds = {"max_streams": PLACES, "max_queue": 2 * args.at_once, "workers": args.workers}
        async with _served(site, url, folder, **bounds) as running:
            return asdict(await leave_at_random(running, lambda: proxy.open, site.prompts, args.clients, args.at_once))


async def overload(site: Site, upstream: str, folder: Path, args: argparse.Namespace) -> Figures:
    """As many clients as places; then four times as many, all but one of a single key."""
    bounds = {"max_streams": PLACES, "max_queue": PLACES, "workers": args.workers, "keys_file": _keys(folder)}
    async with _served(site, upstream, folder, **bounds) as running:
        await crowd(running, site.prompts, {HEAVY: PLACES}, args.seconds / 4, args.tokens)  # nothing is new afterwards
        alone = await crowd(running, site.prompts, {HEAVY: PLACES}, args.seconds, args.tokens)
        clients = {HEAVY: 4 * PLACES - 1, LIGHT: 1}
        many = await crowd(running, site.prompts, clients, args.seconds, args.tokens)
    capacity = alone[HEAVY]["tokens_per_second"]
    goodput = sum(many[key]["tokens_per_second"] for key in clients) / capacity
    rows = {f"{key.removesuffix('-key')}_{name}": value for key, row in many.items() for name, value in row.items()}
    return {"capacity_tokens_per_second": capacity, "goodput": goodput, **rows}


async def ending(site: Site, upstream: str, folder: Path, args: argparse.Namespace) -> Figures:
    """SIGTERM under 32 streams."""
    bounds = {"max_streams": args.streams, "workers": args.workers, "drain_timeout_s": GRACE_S}
    ended = await end_under_load(
        lambda: server(site, upstream, folder / "state", **bounds),
        asks(site.prompts, 2, args.tokens),
        args.streams,
        args.times,
        GRACE_S,
    )
    return {**asdict(ended), "seconds": report.median(ended.seconds)}


DRILLS: Final[Mapping[str, Callable[[Site, str, Path, argparse.Namespace], Coroutine[Any, Any, Figures]]]] = {
    "leaving": leaving,
    "overload": overload,
    "ending": ending,
}


def main() -> None:
    args = _arguments()
    with tempfile.TemporaryDirectory() as folder:
        site = make_site(Path(folder), black_box=args.weights / "blackbox", base=args.weights / "base")
        rows = {name: run(name, site, Path(folder) / name, args) for name in DRILLS if args.only in (None, name)}
    figures = {f"{name}_{figure}": value for name, row in rows.items() for figure, value in row.items()}
    report.show("clients", ("figure", "value"), list(figures.items()))
    print(report.write("clients", figures, {name: str(value) for name, value in vars(args).items()}, rows))


def run(name: str, site: Site, folder: Path, args: argparse.Namespace) -> Figures:
    """One drill's figures, on a black box of its own."""
    print(f"drill: {name}", flush=True)
    folder.mkdir()
    with black_box("--ms-per-token", str(args.ms_per_token), weights=args.weights) as upstream:
        return asyncio.run(DRILLS[name](site, upstream.url, folder, args))


@asynccontextmanager
async def _served(site: Site, upstream: str, folder: Path, **bounds: object) -> AsyncIterator[Running]:
    """The server; this process has a proxy to run while it starts and ends."""
    context = server(site, upstream, folder / "state", **bounds)
    running = await asyncio.to_thread(context.__enter__)
    try:
        yield running
    finally:
        await asyncio.to_thread(context.__exit__, None, None, None)


def _keys(folder: Path) -> Path:
    path = folder / "keys.toml"
    keys = {"heavy": HEAVY, "light": LIGHT}
    path.write_text("".join(f'[{name}]\nsha256 = "{digest_of(key).hex()}"\n' for name, key in keys.items()))
    return path


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=list(DRILLS))
    parser.add_argument("--clients", type=int, default=1000, help="that leave")
    parser.add_argument("--at-once", type=int, default=64, help="of these")
    parser.add_argument("--seconds", type=float, default=30.0, help="of each load")
    parser.add_argument("--times", type=int, default=50, help="that a server is told to end")
    parser.add_argument("--streams", type=int, default=32, help="that run then")
    parser.add_argument("--tokens", type=int, default=32, help="of one answer, but for clients that leave")
    parser.add_argument("--workers", type=int, default=0, help="front-ends")
    parser.add_argument("--ms-per-token", type=float, default=20.0, help="the black box's pace")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="folder with blackbox/ and base/")
    return parser.parse_args()


if __name__ == "__main__":
    main()
