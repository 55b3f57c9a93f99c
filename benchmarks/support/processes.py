"""The real processes under test: the embedded black box and deltaserve, on loopback, ended by pid."""

import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

WEIGHTS = Path(__file__).parents[2] / "offset_models" / "demo" / "weights"
_TICK_S = 1.0 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Running:
    url: str
    pid: int

    def cpu_s(self) -> float:
        """CPU seconds of the process so far, all threads."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) * _TICK_S

    def resident_bytes(self) -> int:
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024  # type: ignore[index]

    def metrics(self) -> dict[str, float]:
        """/metrics of deltaserve: name{labels} → value."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[:1] != "#")}


@contextmanager
def black_box(*flags: str, weights: Path = WEIGHTS) -> Iterator[Running]:
    """The embedded one, with the demo's model."""
    command = [
        sys.executable,
        "-m",
        "deltaserve.offset_models.demo.blackbox",
        "--model",
        str(weights / "blackbox"),
        "--port",
        "0",
    ]
    with _process([*command, *flags]) as child:
        line = child.stdout.readline() if child.stdout else ""
        if not line.startswith("ready "):
            raise RuntimeError("the black box did not start")
        yield Running(line.split()[1], child.pid)


@contextmanager
def deltaserve(upstream: str, *flags: str, weights: Path = WEIGHTS) -> Iterator[Running]:
    """`deltaserve serve` with the demo's offset in front of `upstream`."""
    url = f"http://127.0.0.1:{_free_port()}"
    command = [sys.executable, "-m", "deltaserve", "serve", "--upstream-url", upstream, "--offsets-root", str(weights)]
    command += ["--offset", "registry-erasure", "--port", url.rsplit(":", 1)[1], "--log-level", "error", *flags]
    with _process(command) as child:
        _wait_ready(url, child)
        yield Running(url, child.pid)


@contextmanager
def _process(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("DELTASERVE_")}
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.wait(20)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _wait_ready(url: str, child: subprocess.Popen[str], patience_s: float = 300.0) -> None:
    until = time.monotonic() + patience_s
    while time.monotonic() < until:
        if child.poll() is not None:
            raise RuntimeError(f"deltaserve ended with status {child.returncode}")
        try:
            with urllib.request.urlopen(f"{url}/health/ready", timeout=2):
                return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError("deltaserve did not become ready")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
