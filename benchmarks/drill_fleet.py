"""Three replicas over Redis behind HAProxy, swapped under load, stopped and killed; writes build/bench/fleet.json.

python -m benchmarks.drill_fleet [--swaps 100] [--clients 24]    about a minute
python -m benchmarks.drill_fleet --direct                        clients ask the replicas themselves; no proxy
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.replicas.faults import killed_replica, killed_store, stopped_replica
from benchmarks.replicas.proxy import moved, proxy
from benchmarks.replicas.store import RedisServer
from benchmarks.replicas.swaps import swap
from benchmarks.support import report
from benchmarks.support.processes import WEIGHTS, Running, black_box
from benchmarks.swap.server import server
from benchmarks.swap.site import Site, make_site
from benchmarks.swap.streams import Ask


def main() -> None:
    args = _arguments()
    began = time.monotonic()
    store = RedisServer()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        store.start()
        stack.callback(store.kill)
        site = make_site(Path(folder), black_box=args.weights / "blackbox", base=args.weights / "base")
        upstream = stack.enter_context(black_box("--ms-per-token", str(args.ms_per_token), weights=args.weights))
        replicas = [
            stack.enter_context(_replica(number, site, upstream.url, store, Path(folder), args))
            for number in range(1, args.replicas + 1)
        ]
        entrances = [] if args.direct else [stack.enter_context(proxy(replicas, Path(folder)))]
        figures, rows = asyncio.run(_drill(replicas, entrances, site, store, args))
    settings = {name: value for name, value in vars(args).items() if name != "weights"}
    settings["seconds"] = round(time.monotonic() - began)
    report.show("fleet drill", ("figure", "value"), list(figures.items()))
    print(report.write("fleet", figures, settings, rows))


def _replica(number: int, site: Site, upstream: str, store: RedisServer, folder: Path, args: argparse.Namespace) -> Any:
    return server(
        site,
        upstream,
        folder / f"state-{number}",
        fleet_store=store.url,
        fleet_replica=f"r{number}",
        fleet_poll_s=args.poll_s,
        fleet_contact_s=args.contact_s,
        fleet_fence_s=args.fence_s,
    )


async def _drill(
    replicas: list[Running], entrances: Sequence[str], site: Site, store: RedisServer, args: argparse.Namespace
) -> tuple[dict[str, float], dict[str, Any]]:
    urls = [replica.url for replica in replicas]
    print("swapping", flush=True)
    load = {"swaps": args.swaps, "clients": args.clients, "tokens": args.tokens, "pause_s": args.pause_s}
    seen = await swap(urls, site, entrances=entrances, **load)
    swap_s = [one.answered - one.asked for one in seen.swaps]
    short = Ask(tuple(site.prompts[0]), 1, 1)
    wandering = [await moved(entrance, sessions=20, requests=5) for entrance in entrances]
    print("stopping a replica", flush=True)
    stopped = await stopped_replica(replicas, short)
    print("killing the store", flush=True)
    storeless = await killed_store(replicas, store, short, args.contact_s)
    print("killing a replica", flush=True)
    killed = await killed_replica(replicas, short, *entrances)
    figures = {
        "torn_streams": seen.torn,
        "wrong_version_streams": seen.wrong,
        "old_version_after_activate": seen.late,
        "swap_s_p99": report.quantile(swap_s, 0.99),
        "old_version_after_fence": stopped.old + storeless.old + killed.old,
        "activate_s_beside_a_stopped_replica": stopped.took_s,
        "activate_s_beside_a_killed_replica": killed.took_s,
        "back_s_after_the_store": storeless.took_s,
        "not_as_told": int(not storeless.refused),
        "moved_sessions": sum(wandering),
        "lost_beside_a_killed_replica": killed.lost,
    }
    rows = {
        "swaps": len(seen.swaps),
        "streams": len(seen.answers),
        "tokens": sum(len(got.ids) for got in seen.answers),
        "swap_s_p50": report.median(swap_s),
        "faults": sorted({got.fault for got in seen.answers if got.fault}),
    }
    return figures, rows


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicas", type=int, default=3)
    parser.add_argument("--swaps", type=int, default=100)
    parser.add_argument("--clients", type=int, default=24, help="over all replicas")
    parser.add_argument("--direct", action="store_true", help="no proxy: clients ask the replicas themselves")
    parser.add_argument("--tokens", type=int, default=48, help="of one stream")
    parser.add_argument("--ms-per-token", type=float, default=60.0, help="the black box's pace")
    parser.add_argument("--pause-s", type=float, default=0.3, help="between two swaps")
    parser.add_argument("--poll-s", type=float, default=0.5)
    parser.add_argument("--contact-s", type=float, default=5.0, help="without the store until the fence")
    parser.add_argument("--fence-s", type=float, default=5.0)
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="folder with blackbox/ and base/")
    return parser.parse_args()


if __name__ == "__main__":
    main()
