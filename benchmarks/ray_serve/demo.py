"""The demo under Ray Serve: two replicas of one fleet before the demo's black box, until Ctrl-C.

python -m benchmarks.ray_serve.demo [--port 8000] [--black-box-port 8001] [--once]
"""

import argparse
import asyncio
import secrets
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.ray_serve.config import placed, write
from benchmarks.ray_serve.running import LocalRay, listening, process
from deltaserve.client.admin import AsyncAdminClient
from deltaserve.client.console.children import refuse_busy, unless_ended, until_ready
from deltaserve.client.console.interrupts import until_stopped
from deltaserve.client.console.terminal import Status, Stop, note
from deltaserve.client.demo.ask import before_and_after, model_of
from deltaserve.client.demo.servers import BASE, DEFAULT_K, OFFSET, Running, black_box, checked_weights
from deltaserve.client.demo.show import show_answers
from deltaserve.offset_models.demo.manifest import WEIGHTS
from deltaserve.offset_models.demo.process import HOST, READY_WITHIN_S, Child

REPLICAS = 2
EACH = 2  # questions of each kind that are shown


def main() -> None:
    args = _arguments()
    refuse_busy(HOST, args.port, "server", "--port")
    checked_weights(WEIGHTS)
    try:
        until_stopped(lambda: _run(args))
    except Stop as stop:
        if stop.status is not Status.INTERRUPTED:
            note(str(stop))
            raise SystemExit(stop.status) from None
        note("All stopped.")  # Ctrl-C is how this command ends


async def _run(args: argparse.Namespace) -> None:
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        async with black_box(WEIGHTS, args.black_box_port, DEFAULT_K) as box:
            key = secrets.token_urlsafe(12)
            config = write(_config(args.port, box.url, Path(folder), key), Path(folder) / "serve.yaml")
            note("Starting the black box, Ray and two replicas …")
            await _serve(config, box, key, began, args)


async def _serve(config: Path, box: Running, key: str, began: float, args: argparse.Namespace) -> None:
    with process(config) as child:
        served = Running(f"http://{HOST}:{args.port}", child, key)
        await unless_ended(_answering(served), box.child, child)
        note(f"Both replicas answer after {time.perf_counter() - began:.1f} s.")
        _say_ports(child, config, served.url)
        pairs = await unless_ended(before_and_after(box, served, EACH), box.child, child)
        links = {"black_box": box.url, "server": served.url, "admin_key": key}
        show_answers(pairs, links, await model_of(served), False)
        async with AsyncAdminClient(served.url, api_key=key) as admin:
            fleet = await admin.fleet()
        note(f"Replicas: {', '.join(str(row['replica']) for row in fleet['replicas'])}; active: {fleet['active']}")
        if not args.once:
            note("Ctrl-C stops all of it.")
            await unless_ended(asyncio.Event().wait(), box.child, child)


async def _answering(served: Running) -> None:
    """Raises Stop."""
    url = await asyncio.to_thread(served.child.ready_url, READY_WITHIN_S)
    if url is not None:  # else it has ended, which the caller sees
        await until_ready(served.child, served.url, READY_WITHIN_S)


def _say_ports(child: Child, config: Path, url: str) -> None:
    """Raises Stop where something of Ray can be reached from another machine."""
    ray = LocalRay(url, child, config)
    if elsewhere := ray.elsewhere():
        raise Stop(f"Ray listens on more than this machine's own address: {', '.join(elsewhere)}.")
    ports = len(listening(ray.processes))
    note(f"Ray's {len(ray.processes)} processes listen on {ports} ports, all of this machine alone.")


def _config(port: int, upstream: str, folder: Path, key: str) -> dict[str, Any]:
    arguments = {
        "upstream_url": upstream,
        "offsets_root": str(WEIGHTS),
        "offset": OFFSET,
        "base": str(WEIGHTS / BASE),
        "state_folder": str(folder / "state"),  # a demo begins anew, and its weights stay as built
        "max_streams": 16,
        "torch_threads": 1,
        "device": "cpu",
        "connect_timeout_s": 1,
        "drain_timeout_s": 1,
        "log_level": "warning",
    }
    (folder / "admin_key").write_text(key)
    return placed(port, arguments, {"DELTASERVE_ADMIN_KEY_FILE": str(folder / "admin_key")}, REPLICAS)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--black-box-port", type=int, default=8001)
    parser.add_argument("--once", action="store_true", help="end after the answers")
    return parser.parse_args()


if __name__ == "__main__":
    main()
