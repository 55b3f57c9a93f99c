"""A Ray of this machine alone, with the applications of one Serve config, as `serve run` would deploy them.

    python -m deltaserve.server.ray_serve.local deploy/ray/serve.yaml [--cpus 4]

Every port is on 127.0.0.1, where Ray itself would choose an address that other machines reach. There is no dashboard
and no telemetry. The line "ready URL" says that all applications run. SIGHUP reads the file again; what can be changed
in running replicas (num_replicas, user_config, …) is. SIGINT or SIGTERM ends all of it: replicas drain first.
"""

import argparse
import os
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any, Final, TextIO

import yaml

LOOPBACK: Final = "127.0.0.1"
_ENVIRONMENT: Final = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Despite its name, and on Linux too: Ray replaces a node address of 127.0.0.1 by the machine's own unless it is 0.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
}
_STORE_BYTES: Final = 100_000_000  # of Ray's object store, for which requests have no use
_LOOKS_S: Final = 0.2
_FAILED: Final = ("DEPLOY_FAILED", "UNHEALTHY")
STARTED_WITHIN_S: Final = 600.0


class Told:
    """What signals ask for."""

    def __init__(self) -> None:
        self.something = threading.Event()
        self.to_end = False
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._hear)

    def _hear(self, number: int, _: FrameType | None) -> None:
        self.to_end = self.to_end or number != signal.SIGHUP
        self.something.set()


def main() -> int:
    """Gives the exit status: 0 after a signal to end, 1 where an application cannot be started."""
    args = _arguments()
    os.environ.update(_ENVIRONMENT)
    with tempfile.TemporaryDirectory(prefix="ray-") as folder:
        return _run(args.config, args.cpus, folder)


def _run(config: Path, cpus: int | None, folder: str) -> int:
    import ray  # after its environment
    from ray import serve

    ray.init(
        num_cpus=cpus,
        namespace="serve",
        include_dashboard=False,
        object_store_memory=_STORE_BYTES,
        _node_ip_address=LOOPBACK,
        _temp_dir=folder,
    )
    told = Told()
    try:
        _deploy(config)
        if not _running(told):
            return 0 if told.to_end else 1
        _say(sys.stdout, f"ready {_address(config)}")
        while not told.to_end:
            told.something.wait()
            told.something.clear()
            if not told.to_end:
                _deploy_again(config)
        return 0
    finally:
        serve.shutdown()
        ray.shutdown()


def _deploy(config: Path) -> None:
    """The command `serve run`, in the Ray that is there."""
    from ray.serve.scripts import cli

    cli.main(["run", "--non-blocking", str(config)], standalone_mode=False)


def _deploy_again(config: Path) -> None:
    """What cannot be read changes nothing."""
    try:
        _deploy(config)
    except (OSError, ValueError, yaml.YAMLError) as error:
        _say(sys.stderr, f"{config} is not followed: {error}")


def _running(told: Told) -> bool:
    """Waits until every application runs; says on stderr why one does not."""
    from ray import serve

    until = time.monotonic() + STARTED_WITHIN_S
    while not told.to_end and time.monotonic() < until:
        states = serve.status().applications
        failed = [f"{name}: {_why(state)}" for name, state in states.items() if state.status in _FAILED]
        if failed:
            _say(sys.stderr, "\n".join(failed))
            return False
        if states and all(state.status == "RUNNING" for state in states.values()):
            return True
        told.something.wait(_LOOKS_S)
    return False


def _say(stream: TextIO, words: str) -> None:
    stream.write(f"{words}\n")
    stream.flush()


def _why(state: Any) -> str:
    return " ".join([state.message, *(deployment.message for deployment in state.deployments.values())]).strip()


def _address(config: Path) -> str:
    options = yaml.safe_load(config.read_text("utf-8")).get("http_options", {})
    return f"http://{options.get('host', '0.0.0.0')}:{options.get('port', 8000)}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path, help="a Serve config, in YAML")
    parser.add_argument("--cpus", type=int, help="that Ray may give away; default: those of the machine")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
