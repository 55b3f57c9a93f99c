"""Python programs as processes of their own, without the seconds that importing torch takes each of them.

A nursery is a process that has imported what its programs need and forks for each of them. The child becomes
`python -m MODULE ARGUMENTS` with an environment, a folder and streams of its own. Tests of how a program comes up start
it from nothing instead. The workers of one test run have their nurseries together.
"""

import atexit
import errno
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from tests.support import forking

COMMANDS = ("deltaserve.client.commands.serve", "deltaserve.client.console.server_settings", "deltaserve.server.app")
ROOT = Path(__file__).parents[2]
LISTENS_WITHIN_S = 10.0
MODELS = (
    "deltaserve.offset_models.demo.blackbox",
    "deltaserve.offset_models.engine.pair_engine",
    "transformers.models.llama.modeling_llama",
)


class Forked:
    """What `subprocess.Popen` knows of a program. Its output is read where the nursery was told to write it."""

    stderr = None

    def __init__(self, keeper: socket.socket, output: int | None) -> None:
        self._keeper = keeper
        self.pid = int(keeper.recv(64))
        self.stdout = None if output is None else os.fdopen(output, "rb")
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        return self._status(0.0)

    def wait(self, timeout: float | None = None) -> int:
        """The exit status. Raises subprocess.TimeoutExpired."""
        status = self._status(timeout)
        if status is None:
            raise subprocess.TimeoutExpired("a program of the nursery", timeout or 0.0)
        return status

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _status(self, within_s: float | None) -> int | None:
        if self.returncode is None and select.select([self._keeper], [], [], within_s)[0]:
            self.returncode = int(self._keeper.recv(64))
            self._keeper.close()
        return self.returncode


class Nursery:
    """The process that forks. `absent`: modules that cannot be imported there.

    `name`: all who give the same one have one process together, which ends when the last of them has left.
    """

    def __init__(self, modules: Sequence[str], absent: Sequence[str] = (), name: str = "") -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            try:
                listener.bind(f"\0{name}" if name else "")  # Linux finds a name for who has none
            except OSError as taken:
                if taken.errno != errno.EADDRINUSE:
                    raise
                self._connect(f"\0{name}")
            else:
                listener.listen(64)
                self._process = _forking(listener, modules, absent)
                self._connect(listener.getsockname())
        atexit.register(self.close)

    def _connect(self, address: str | bytes) -> None:
        until = time.monotonic() + LISTENS_WITHIN_S
        while True:
            try:
                return self._line.connect(address)
            except ConnectionRefusedError:  # whoever took the name is about to listen
                if time.monotonic() > until:
                    raise
                time.sleep(0.01)

    def start(
        self,
        module: str,
        *arguments: str,
        stdout: int,
        stderr: int,
        env: Mapping[str, str] | None = None,
        folder: Path | None = None,
        largest_file: int | None = None,
    ) -> socket.socket:
        """Forks a program that writes to these descriptors; gives the socket at which its keeper speaks."""
        told = {"module": module, "arguments": arguments, "env": dict(env or os.environ), "largest_file": largest_file}
        told["folder"] = str(folder or Path.cwd())
        ours, keeper = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with keeper:
            try:
                socket.send_fds(self._line, [json.dumps(told).encode()], [keeper.fileno(), stdout, stderr])
            except OSError:
                ours.close()
                raise
        return ours

    def read(self, module: str, *arguments: str, env: Mapping[str, str] | None = None, errors: bool = True) -> Forked:
        """A program whose stdout we read, and its stderr at the same end with `errors`; else that goes to ours."""
        read, write = os.pipe()
        try:
            keeper = self.start(module, *arguments, stdout=write, stderr=write if errors else 2, env=env)
        finally:
            os.close(write)
        return Forked(keeper, read)

    def run(
        self,
        module: str,
        *arguments: str,
        within_s: float,
        env: Mapping[str, str] | None = None,
        folder: Path | None = None,
        largest_file: int | None = None,
    ) -> "subprocess.CompletedProcess[str]":
        """A program that ends soon and says little, as `subprocess.run` with its streams captured."""
        (out, to_out), (err, to_err) = os.pipe(), os.pipe()
        try:
            keeper = self.start(
                module, *arguments, stdout=to_out, stderr=to_err, env=env, folder=folder, largest_file=largest_file
            )
        finally:
            os.close(to_out)
            os.close(to_err)
        program = Forked(keeper, None)
        with os.fdopen(out) as stdout, os.fdopen(err) as stderr:
            try:
                status = program.wait(within_s)
            finally:
                program.kill()
                program.wait()
            return subprocess.CompletedProcess([module, *arguments], status, stdout.read(), stderr.read())

    def close(self) -> None:
        self._line.close()
        if self._process is not None:
            self._process.wait()


def _forking(listener: socket.socket, modules: Sequence[str], absent: Sequence[str]) -> "subprocess.Popen[bytes]":
    told = (str(listener.fileno()), ",".join(modules), ",".join(absent))
    # The first test that wants a nursery may have moved to a folder of its own.
    return subprocess.Popen(
        [sys.executable, "-m", forking.__name__, *told],
        pass_fds=[listener.fileno()],
        stdin=subprocess.DEVNULL,
        cwd=ROOT,
    )


@cache
def nursery() -> Nursery:
    """For servers and black boxes."""
    return Nursery((*COMMANDS, *MODELS), name=_of_this_run("models"))


@cache
def nursery_without_torch() -> Nursery:
    """For commands that end before they read a model."""
    return Nursery(COMMANDS, absent=("torch",), name=_of_this_run("commands"))


def _of_this_run(kind: str) -> str:
    """A name that all workers of one run have in common; none outside of a worker."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID")
    return f"deltaserve-{run}-{kind}" if run else ""
