"""Python programs as processes of their own: what they print is read as it comes, and each is ended by its id."""

import asyncio
import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Literal, Self

from deltaserve.errors import UpstreamUnreachable

HOST: Final = "127.0.0.1"
READY_WITHIN_S: Final = 300.0  # importing torch alone takes long on a busy machine
STOPPED_WITHIN_S: Final = 10.0
KEPT_LINES: Final = 60
LONGEST_LINE: Final = 4096  # bytes
PR_SET_PDEATHSIG: Final = 1  # of Linux's prctl
Read = Literal["stdout", "stderr", "both"]


class Child:
    """One process of ours. The last lines of what it prints are kept for when it dies."""

    def __init__(self, name: str, popen: "subprocess.Popen[bytes]") -> None:
        self.name = name
        self.popen = popen
        self.lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._url: str | None = None
        self._told = threading.Event()  # the address is known, or will never be
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @classmethod
    def start(
        cls, name: str, *command: str, env: Mapping[str, str] | None = None, read: Read = "both", tied: bool = False
    ) -> Self:
        """Runs the command. What is not read of its stdout is dropped, of its stderr goes to ours.

        `tied`: Ctrl-C at the terminal does not reach it, so that we can stop our processes in order; and it ends when
        we are killed (on Linux). Only for processes that the main thread starts.
        """
        streams: dict[Read, dict[str, Any]] = {
            "stdout": {"stdout": subprocess.PIPE},
            "stderr": {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE},
            "both": {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT},
        }
        popen = subprocess.Popen(
            command,
            env=env,
            stdin=subprocess.DEVNULL,
            preexec_fn=ends_with_us() if tied else None,
            start_new_session=tied,
            **streams[read],
        )
        return cls(name, popen)

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def exit_status(self) -> int | None:
        """None while it runs."""
        return self.popen.poll()

    def last_lines(self, count: int, within_s: float = 1.0) -> str:
        """Of what an ended process printed, once all of it is read."""
        self._reader.join(within_s)
        return "".join(list(self.lines)[-count:])[-LONGEST_LINE:].strip()

    def ready_url(self, within_s: float) -> str | None:
        """The address in the line "ready URL"; None when the process ends before it. Raises TimeoutError."""
        if not self._told.wait(within_s):
            raise TimeoutError
        return self._url

    def kill(self) -> None:
        """At once, as a crash would."""
        self.popen.kill()
        self.popen.wait()

    def stop(self, within_s: float = STOPPED_WITHIN_S) -> None:
        """SIGTERM, and SIGKILL to one that still runs after `within_s`."""
        with suppress(ProcessLookupError):
            self.popen.terminate()
        try:
            self.popen.wait(within_s)
        except subprocess.TimeoutExpired:
            self.kill()
        self._reader.join(within_s)

    def _read(self) -> None:
        stream = self.popen.stdout or self.popen.stderr
        if stream is not None:
            with stream:
                while line := stream.readline(LONGEST_LINE).decode(errors="replace"):
                    self.lines.append(line)
                    if self._url is None and line.startswith("ready "):
                        self._url = line.split()[1]
                        self._told.set()
        self._told.set()


@contextmanager
def running(
    name: str, *command: str, env: Mapping[str, str] | None = None, read: Read = "both", tied: bool = False
) -> Iterator[Child]:
    """As `Child.start`; stopped at the end."""
    child = Child.start(name, *command, env=env, read=read, tied=tied)
    try:
        yield child
    finally:
        child.stop()


@asynccontextmanager
async def serving(model: Path, *options: str) -> AsyncIterator[str]:
    """Serve a model folder on a free loopback port; gives the URL that ends in /v1. Raises UpstreamUnreachable."""
    child = Child.start("black box", *black_box_command(model), *options, read="stdout")
    try:
        yield await _ready_url(child) + "/v1"
    finally:
        await asyncio.to_thread(child.stop)


def black_box_command(model: Path, port: int = 0) -> tuple[str, ...]:
    """Serves a model folder; port 0: any that is free."""
    module = "deltaserve.offset_models.demo.blackbox"
    return (sys.executable, "-m", module, "--model", str(model), "--port", str(port))


def free_port(host: str = HOST) -> int:
    """A port that nobody has now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def environment_without_settings() -> dict[str, str]:
    """Ours, without the settings of a server."""
    return {name: value for name, value in os.environ.items() if not name.startswith("DELTASERVE_")}


async def _ready_url(child: Child) -> str:
    """The address in the line that the process prints once it answers requests."""
    try:
        url = await asyncio.to_thread(child.ready_url, READY_WITHIN_S)
    except TimeoutError:
        raise UpstreamUnreachable(f"The embedded black box was not ready within {READY_WITHIN_S:.0f} s.") from None
    if url is None:
        raise UpstreamUnreachable("The embedded black box ended before it was ready; its own words are on stderr.")
    return url


def ends_with_us() -> Callable[[], None] | None:
    """For a process before it runs: SIGTERM when ours is gone, even by SIGKILL. None where only Linux can."""
    if sys.platform != "linux":
        return None
    prctl, parent = ctypes.CDLL(None).prctl, os.getpid()  # looked up here: after the fork as little as can be

    def ask() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # gone already
            os._exit(1)

    return ask
