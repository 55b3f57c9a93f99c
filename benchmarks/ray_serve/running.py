"""A Ray of this machine alone as a process: its applications, what it listens on, and that nothing of it stays."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.ray_serve.config import write
from benchmarks.support.process_tree import ended
from benchmarks.support.processes import family
from deltaserve.offset_models.demo.process import READY_WITHIN_S, Child, environment_without_settings

_PID = re.compile(r"pid=(\d+)")
_LOOPBACK: Final = ("127.", "[::1]:", "[::ffff:127.")
_LAST_LINES: Final = 30


@dataclass(frozen=True, slots=True)
class LocalRay:
    url: str
    child: Child
    path: Path  # of its Serve config

    def deploy(self, config: Mapping[str, Any]) -> None:
        """What can be changed in running replicas is; Ray goes on with it after this returns."""
        write(config, self.path)
        os.kill(self.child.pid, signal.SIGHUP)

    @property
    def processes(self) -> list[int]:
        return family(self.child.pid)

    def elsewhere(self) -> list[str]:
        """Addresses on which its processes listen, other than this machine's own."""
        return [address for address, pid in listening(self.processes) if not address.startswith(_LOOPBACK)]


@contextmanager
def local_ray(config: Mapping[str, Any], folder: Path) -> Iterator[LocalRay]:
    """Started with `config`. Raises RuntimeError with its last words where it does not come about."""
    path = write(config, folder / "serve.yaml")
    with process(path) as child:
        url = child.ready_url(READY_WITHIN_S)
        if url is None:
            raise RuntimeError(f"Ray does not serve {path}:\n{child.last_lines(_LAST_LINES)}")
        yield LocalRay(url, child, path)


@contextmanager
def process(path: Path) -> Iterator[Child]:
    """Of the Serve config at `path`. At the end its replicas drain."""
    command = (sys.executable, "-m", "deltaserve.server.ray_serve.local", str(path), "--cpus", "4")
    child = Child.start("Ray", *command, env=environment_without_settings(), read="both", tied=True)
    try:
        yield child
    finally:
        child.stop(READY_WITHIN_S)


def listening(pids: Sequence[int]) -> list[tuple[str, int]]:
    """(address:port, pid) of each TCP port on which one of these processes listens, as `ss -ltnp` tells."""
    if shutil.which("ss") is None:
        raise RuntimeError("There is no ss on PATH: apt-get install iproute2")
    lines = subprocess.run(("ss", "-ltnpH"), check=True, capture_output=True, text=True).stdout.splitlines()
    found = [(line.split()[3], int(pid)) for line in lines for pid in _PID.findall(line)]
    return [(address, pid) for address, pid in found if pid in pids]


def orphans(pids: Sequence[int], within_s: float = 10.0) -> list[int]:
    """Those of the processes that do not end."""
    until = time.monotonic() + within_s
    while not ended(list(pids), 0.1) and time.monotonic() < until:
        pass
    return [pid for pid in pids if not ended([pid], 0.0)]
