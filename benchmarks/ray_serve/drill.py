"""Two replicas under Ray Serve, swapped under load; a third one comes and goes; writes build/bench/ray.json.

python -m benchmarks.ray_serve.drill [--swaps 20] [--clients 8]    two or three minutes
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.ray_serve.config import deployment_of, placed
from benchmarks.ray_serve.running import LocalRay, local_ray, orphans
from benchmarks.replicas.swaps import Swapped, swap
from benchmarks.support import report
from benchmarks.support.processes import WEIGHTS, black_box
from benchmarks.swap.server import ADMIN_KEY, SERVED
from benchmarks.swap.site import NAMES, Site, make_site
from benchmarks.swap.streams import Crowd, asks, torn, wrong
from deltaserve.client.admin import AsyncAdminClient
from deltaserve.client.errors import ClientError
from deltaserve.offset_models.demo.process import free_port

REPLICAS = 2
_LOOK_S = 0.2
_GIVEN_UP_S = 180.0


def main() -> None:
    args = _arguments()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        site = make_site(folder, black_box=args.weights / "blackbox", base=args.weights / "base")
        with black_box("--ms-per-token", str(args.ms_per_token), weights=args.weights) as upstream:
            config = _config(site, upstream.url, folder, args)
            starting = time.monotonic()
            with local_ray(config, folder) as ray:
                start_s = time.monotonic() - starting
                elsewhere = ray.elsewhere()
                figures, rows = asyncio.run(_drill(ray, config, site, args))
                elsewhere += ray.elsewhere()
                processes = ray.processes
            left = orphans(processes)
    figures |= {"start_s": start_s, "ports_elsewhere": len(elsewhere), "processes_left": len(left)}
    rows |= {"elsewhere": elsewhere, "processes": len(processes)}
    settings = {name: value for name, value in vars(args).items() if name != "weights"}
    settings["seconds"] = round(time.monotonic() - began)
    report.show("Ray Serve drill", ("figure", "value"), list(figures.items()))
    print(report.write("ray", figures, settings, rows))


async def _drill(
    ray: LocalRay, config: dict[str, Any], site: Site, args: argparse.Namespace
) -> tuple[dict[str, float], dict[str, Any]]:
    await _replicas(ray.url, REPLICAS)
    print("swapping", flush=True)
    load = {"swaps": args.swaps, "clients": args.clients, "tokens": args.tokens, "pause_s": args.pause_s}
    seen = await swap([ray.url], site, **load)
    swap_s = [one.answered - one.asked for one in seen.swaps]
    print("changing the number of replicas, and user_config", flush=True)
    crowd = Crowd(ray.url, asks(site.prompts, 1, args.tokens), args.clients)
    async with crowd:
        wish_s = await _wished(ray, config)
        grown_s = await _scaled(ray, config, REPLICAS + 1)
        await asyncio.sleep(args.steady_s)
        shrunk_s = await _scaled(ray, config, REPLICAS)
        await asyncio.sleep(args.steady_s)
    figures = {
        "torn_streams": seen.torn,
        "wrong_version_streams": seen.wrong,
        "old_version_after_activate": seen.late,
        "swap_s_p99": report.quantile(swap_s, 0.99),
        "torn_while_scaling": torn(crowd.answers),
        "wrong_while_scaling": wrong(crowd.answers, seen.known),
        "third_replica_s": grown_s,
        "third_replica_gone_s": shrunk_s,
        "user_config_s": wish_s,
    }
    return figures, _rows(seen, crowd, swap_s)


def _rows(seen: Swapped, crowd: Crowd, swap_s: list[float]) -> dict[str, Any]:
    return {
        "swaps": len(seen.swaps),
        "swap_s_p50": report.median(swap_s),
        "streams": len(seen.answers),
        "streams_while_scaling": len(crowd.answers),
        "tokens": sum(len(got.ids) for got in [*seen.answers, *crowd.answers]),
        "faults": sorted({got.fault for got in [*seen.answers, *crowd.answers] if got.fault}),
    }


async def _wished(ray: LocalRay, config: dict[str, Any]) -> float:
    """Seconds from a new `user_config` to when its offset holds on every replica."""
    async with AsyncAdminClient(ray.url, api_key=ADMIN_KEY) as admin:
        active = (await admin.fleet())["active"]
    wanted = next(name for name in NAMES if name != active)
    deployment_of(config)["user_config"] = {"offset": wanted, "change": 2}
    began = time.monotonic()
    ray.deploy(config)
    await _until(ray.url, lambda fleet: {fleet["active"], *(row["active"] for row in fleet["replicas"])} == {wanted})
    return time.monotonic() - began


async def _scaled(ray: LocalRay, config: dict[str, Any], replicas: int) -> float:
    """Seconds until so many replicas answer, and no other one is in the fleet."""
    deployment_of(config)["num_replicas"] = replicas
    began = time.monotonic()
    ray.deploy(config)
    await _replicas(ray.url, replicas)
    return time.monotonic() - began


async def _replicas(url: str, count: int) -> None:
    await _until(url, lambda fleet: [row["fenced"] for row in fleet["replicas"]] == [None] * count)


async def _until(url: str, true: Callable[[Mapping[str, Any]], bool]) -> None:
    """Until the fleet, asked through Ray's proxy, is as wanted. Raises RuntimeError when that takes too long."""
    until = time.monotonic() + _GIVEN_UP_S
    async with AsyncAdminClient(url, api_key=ADMIN_KEY) as admin:
        while True:
            try:
                fleet = await admin.fleet()
                if true(fleet):
                    return
            except ClientError as error:
                fleet = {"error": str(error)}
            if time.monotonic() > until:
                raise RuntimeError(f"The fleet does not become what was asked for: {fleet}")
            await asyncio.sleep(_LOOK_S)


def _config(site: Site, upstream: str, folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    (folder / "admin_key").write_text(ADMIN_KEY)
    arguments = {
        "upstream_url": upstream,
        "offsets_root": str(site.root),
        "offset": NAMES[0],
        "state_folder": str(folder / "state"),
        "served_name": SERVED,
        "max_streams": 16,
        "torch_threads": 1,
        "device": "cpu",
        "admin_requests_per_minute": 100_000,
        "drain_timeout_s": args.drain_s,
        "fleet_contact_s": args.contact_s,
        "log_level": "error",
    }
    return placed(free_port(), arguments, {"DELTASERVE_ADMIN_KEY_FILE": str(folder / "admin_key")}, REPLICAS)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--swaps", type=int, default=20)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=48, help="of one stream")
    parser.add_argument("--ms-per-token", type=float, default=60.0, help="the black box's pace")
    parser.add_argument("--pause-s", type=float, default=1.0, help="between two swaps")
    parser.add_argument("--steady-s", type=float, default=8.0, help="under load, after the number of replicas changed")
    parser.add_argument("--drain-s", type=float, default=60.0, help="for the streams of a replica that is to go")
    parser.add_argument("--contact-s", type=float, default=10.0, help="without the store until the fence")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="folder with blackbox/ and base/")
    return parser.parse_args()


if __name__ == "__main__":
    main()
