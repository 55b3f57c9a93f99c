"""A process that a test starts and ends, by its pid; what it says is kept for when it fails."""

import queue
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

ENDED_WITHIN_S = 15.0


@dataclass(slots=True)
class Running:
    """Lines of stdout and stderr together, read as they come so that no pipe fills up."""

    popen: "subprocess.Popen[str]"
    lines: list[str] = field(default_factory=list)
    _news: "queue.SimpleQueue[str | None]" = field(default_factory=queue.SimpleQueue)

    def said(self, beginning: str, within_s: float) -> str:
        """The rest of the first line that begins so; fails with all that was said when none comes."""
        end = time.monotonic() + within_s
        while (left := end - time.monotonic()) > 0:
            try:
                line = self._news.get(timeout=left)
            except queue.Empty:
                break
            if line is None:
                break
            if line.startswith(beginning):
                return line.removeprefix(beginning).strip()
        raise AssertionError(f"no line {beginning!r} in {within_s:g} s, but:\n" + self.output())

    def output(self, last: int = 60) -> str:
        return "".join(self.lines[-last:])

    def kill(self) -> None:
        """At once, as a crash would."""
        self.popen.kill()
        self.popen.wait(ENDED_WITHIN_S)

    def read(self) -> None:
        assert self.popen.stdout is not None
        for line in self.popen.stdout:
            self.lines.append(line)
            self._news.put(line)
        self._news.put(None)


@contextmanager
def running(*command: str, env: Mapping[str, str] | None = None) -> Iterator[Running]:
    """Starts the command; interrupts it at the end, and kills it when it does not listen."""
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


def _end(popen: "subprocess.Popen[str]") -> None:
    if popen.poll() is None:
        popen.send_signal(signal.SIGTERM)
        try:
            popen.wait(ENDED_WITHIN_S)
        except subprocess.TimeoutExpired:
            popen.kill()
            popen.wait(ENDED_WITHIN_S)
