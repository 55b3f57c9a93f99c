"""The processes of a server, found by their parent, and ended as a crash would end them."""

import os
import signal
import time
from pathlib import Path


def children(pid: int) -> dict[int, str]:
    """pid → role of the running processes that `pid` started for its server."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (role := _role(entry, pid)):
            found[int(entry.name)] = role
    return found


def _role(entry: Path, parent: int) -> str | None:
    try:
        state, of = (entry / "stat").read_text().rsplit(")", 1)[1].split()[:2]
        words = (entry / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return None  # gone meanwhile
    ours = state != "Z" and int(of) == parent and b"deltaserve.server.processes" in words
    return words[words.index(b"deltaserve.server.processes") + 1].decode() if ours else None


def of_role(pid: int, role: str) -> list[int]:
    return sorted(child for child, its in children(pid).items() if its == role)


def crash(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def runs(pid: int) -> bool:
    """Whether the process is there, and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def ended(pids: list[int], within_s: float = 10.0) -> bool:
    """Whether all of them end in time."""
    until = time.monotonic() + within_s
    while any(map(runs, pids)):
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True
