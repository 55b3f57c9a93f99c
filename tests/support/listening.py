"""Where a process and its children listen, from Linux's /proc."""

import socket
from collections.abc import Iterator
from pathlib import Path

_LISTEN = "0A"


def listening_addresses(pid: int) -> set[str]:
    """IP addresses of the TCP sockets on which `pid` or a descendant of it listens."""
    sockets = {inode for each in [pid, *_descendants(pid)] for inode in _sockets(each)}
    return {address for address, inode in _listeners() if inode in sockets}


def _descendants(pid: int) -> Iterator[int]:
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, file.read_text().split()):
            yield child
            yield from _descendants(child)


def _sockets(pid: int) -> Iterator[str]:
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(entry.readlink())
        except FileNotFoundError:  # closed meanwhile
            continue
        if target.startswith("socket:["):
            yield target.removeprefix("socket:[").removesuffix("]")


def _listeners() -> Iterator[tuple[str, str]]:
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == _LISTEN:
                yield _address(fields[1].rpartition(":")[0], family), fields[9]


def _address(digits: str, family: socket.AddressFamily) -> str:
    """The kernel writes each 32-bit word in the machine's order (little-endian here)."""
    words = [bytes.fromhex(digits[at : at + 8])[::-1] for at in range(0, len(digits), 8)]
    return socket.inet_ntop(family, b"".join(words))
