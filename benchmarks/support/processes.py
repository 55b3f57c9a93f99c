"""The real processes under test: the embedded black box and deltaserve, on loopback, ended by pid."""

import os
import re
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deltaserve.offset_models.demo.process import (
    HOST,
    READY_WITHIN_S,
    Child,
    black_box_command,
    environment_without_settings,
    free_port,
    running,
)

WEIGHTS = Path(__file__).parents[2] / "offset_models" / "demo" / "weights"
_TICK_S = 1.0 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Running:
    """A server: one process, or a parent with its front-ends and its engine."""

    url: str
    pid: int

    def cpu_s(self) -> float:
        """CPU seconds so far of all its processes, those that have ended too."""
        return sum(_cpu_ticks(pid) for pid in family(self.pid)) * _TICK_S

    def resident_bytes(self) -> int:
        """Of all its processes; pages that they share count in each."""
        return sum(map(resident_bytes, family(self.pid)))

    def metrics(self) -> dict[str, float]:
        """/metrics of deltaserve: name{labels} → value."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[:1] != "#")}


def family(pid: int) -> list[int]:
    """The process and its descendants that run now."""
    parents = {int(folder.name): _parent(folder) for folder in Path("/proc").iterdir() if folder.name.isdigit()}
    found = [pid]
    for one in found:  # grows as it is read
        found += [child for child, parent in parents.items() if parent == one]
    return found


def _stat(folder: Path) -> list[str]:
    """The fields of /proc/PID/stat from the process's state on; none where it has ended."""
    try:
        return (folder / "stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return []


def _parent(folder: Path) -> int:
    fields = _stat(folder)
    return int(fields[1]) if fields else 0


def _cpu_ticks(pid: int) -> int:
    """User and system time of its threads, and of the children that it waited for."""
    return sum(map(int, _stat(Path(f"/proc/{pid}"))[11:15]))


def resident_bytes(pid: int) -> int:
    """Of one process; 0 where it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    return int(found[1]) * 1024 if found else 0


@contextmanager
def black_box(*flags: str, weights: Path = WEIGHTS) -> Iterator[Running]:
    """The embedded one, with the demo's model."""
    command = black_box_command(weights / "blackbox")
    with running(
        "black box", *command, *flags, env=environment_without_settings(), read="stdout", tied=_tied()
    ) as child:
        url = child.ready_url(READY_WITHIN_S)
        if url is None:
            raise RuntimeError("the black box did not start")
        yield Running(url, child.pid)


@contextmanager
def deltaserve(upstream: str, *flags: str, weights: Path = WEIGHTS) -> Iterator[Running]:
    """`deltaserve serve` with the demo's offset in front of `upstream`."""
    port = str(free_port())
    command = [sys.executable, "-m", "deltaserve", "serve", "--upstream-url", upstream, "--offsets-root", str(weights)]
    command += ["--offset", "registry-erasure", "--port", port, "--log-level", "error", *flags]
    with running("deltaserve", *command, env=environment_without_settings(), read="stdout", tied=_tied()) as child:
        url = f"http://{HOST}:{port}"
        _wait_ready(url, child)
        yield Running(url, child.pid)


def _tied() -> bool:
    """A benchmark that is ended from outside leaves no server behind."""
    return threading.current_thread() is threading.main_thread()


def _wait_ready(url: str, child: Child) -> None:
    until = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < until:
        if child.exit_status is not None:
            raise RuntimeError(f"deltaserve ended with status {child.exit_status}")
        try:
            with urllib.request.urlopen(f"{url}/health/ready", timeout=2):
                return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError("deltaserve did not become ready")
