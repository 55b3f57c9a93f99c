"""One process of a server, as its supervisor sees it."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Literal

import msgspec

from deltaserve.server.processes.handover import Handover, Report, give

Role = Literal["engine", "frontend"]


class Child:
    """A running process. Its channel can be read when it has reported or ended."""

    def __init__(self, module: str, role: Role, handover: Handover, env: Mapping[str, str] | None = None) -> None:
        self.role = role
        self.started = False
        self.channel, theirs = socket.socketpair()
        descriptors = (theirs.fileno(), *handover.public, *handover.admin)
        self._popen = subprocess.Popen(
            [sys.executable, "-m", module, role, str(theirs.fileno())],
            env=env,
            stdin=subprocess.DEVNULL,
            pass_fds=descriptors,
            start_new_session=True,  # a terminal's Ctrl-C is the supervisor's to hear
        )
        theirs.close()
        self._buffer = b""
        with suppress(OSError):  # it has ended already, which the channel tells
            give(self.channel, handover)

    @property
    def pid(self) -> int:
        return self._popen.pid

    def report(self) -> Report | None:
        """What it said, blocking until it says something; None when it has ended."""
        while b"\n" not in self._buffer:
            try:
                more = self.channel.recv(4096)
            except OSError:
                more = b""
            if not more:
                return None
            self._buffer += more
        line, _, self._buffer = self._buffer.partition(b"\n")
        report = msgspec.json.decode(line, type=Report)
        self.started |= report.started
        return report

    def signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            self._popen.send_signal(number)

    def ended(self, within_s: float) -> int:
        """Its exit status; it is killed where it has not ended in time."""
        try:
            status = self._popen.wait(within_s)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            status = self._popen.wait()
        self.channel.close()
        return status


def environment(**more: str) -> dict[str, str]:
    """Ours, and more."""
    return {**os.environ, **more}
