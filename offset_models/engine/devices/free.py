"""Cores and free memory of this machine, or of the container that this process is in."""

import os
from pathlib import Path
from typing import Final

import torch

_CGROUP: Final = Path("/sys/fs/cgroup")
_MEMINFO: Final = Path("/proc/meminfo")


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_bytes(device: str) -> int | None:
    """Memory that can still be had on a device; None where the system does not tell."""
    if torch.device(device).type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    known = [left for left in (_free_in_machine(), _free_in_group(_CGROUP)) if left is not None]
    return min(known, default=None)


def _free_in_machine(meminfo: Path = _MEMINFO) -> int | None:
    try:
        lines = meminfo.read_text().splitlines()
    except OSError:
        return None
    found = [line.split() for line in lines if line.startswith("MemAvailable:")]
    return int(found[0][1]) * 1024 if found else None


def _free_in_group(group: Path) -> int | None:
    """What a container may still take (control groups, second version); pages of files that were read do not count."""
    try:
        limit, used = ((group / name).read_text().strip() for name in ("memory.max", "memory.current"))
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except OSError:
        return None
    if not (limit.isdigit() and used.isdigit()):
        return None  # "max": no limit
    return int(limit) - int(used) + int(stat.get("inactive_file", 0))
