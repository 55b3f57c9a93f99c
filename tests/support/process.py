"""A server process that a test starts and ends, by its pid; what it says is kept for when it fails."""

import socket
import subprocess
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx2 as httpx

ENDED_WITHIN_S = 15.0
_KEPT_LINES = 60


@dataclass(slots=True)
class Running:
    """A process; its output is read as it comes so that no pipe fills up."""

    popen: "subprocess.Popen[str]"
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=_KEPT_LINES))

    def wait_until_ok(self, client: httpx.Client, path: str, within_s: float) -> None:
        """Until `path` answers 200; fails with what the process said."""
        end = time.monotonic() + within_s
        while time.monotonic() < end and self.popen.poll() is None:
            try:
                if client.get(path).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        raise AssertionError("the server did not become ready:\n" + "".join(self.lines))

    def kill(self) -> None:
        """At once, as a crash would."""
        self.popen.kill()
        self.popen.wait(ENDED_WITHIN_S)

    def read(self) -> None:
        assert self.popen.stdout is not None
        self.lines.extend(self.popen.stdout)


@contextmanager
def running(*command: str, env: Mapping[str, str] | None = None) -> Iterator[Running]:
    """Starts the command; terminates it at the end, and kills it when it does not listen."""
    popen = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env)
    process = Running(popen)
    reader = threading.Thread(target=process.read, daemon=True)
    reader.start()
    try:
        yield process
    finally:
        _end(popen)
        reader.join(ENDED_WITHIN_S)
        assert popen.stdout is not None
        popen.stdout.close()


def free_port() -> int:
    """A port of loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _end(popen: "subprocess.Popen[str]") -> None:
    if popen.poll() is None:
        popen.terminate()
        try:
            popen.wait(ENDED_WITHIN_S)
        except subprocess.TimeoutExpired:
            popen.kill()
            popen.wait(ENDED_WITHIN_S)
