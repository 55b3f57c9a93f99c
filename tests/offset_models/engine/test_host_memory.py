"""Memory really falls."""

import os
import platform
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from deltaserve.offset_models.engine.host_memory import give_back


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc only")
def test_what_another_thread_freed_leaves_the_process() -> None:
    kept: list[torch.Tensor] = []

    def fragment() -> None:
        """Blocks below the size that the allocator maps by itself, with small ones between them that stay."""
        blocks = []
        for _ in range(2_000):
            blocks.append(torch.ones(12 << 10))
            kept.append(torch.ones(1))

    thread = threading.Thread(target=fragment)
    thread.start()
    thread.join()
    held = resident()
    give_back()
    assert held - resident() > 48 << 20


FAULTS = """
import resource, sys, torch
from deltaserve.offset_models.engine.host_memory import keep_freed

if sys.argv[1] == "kept":
    keep_freed()
torch.set_num_threads(1)


def faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


torch.ones(20 << 20).sum()  # 80 MB
before = faults()
for _ in range(3):
    torch.ones(20 << 20).sum()
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc only")
def test_large_blocks_are_mapped_once_when_freed_memory_is_kept() -> None:
    def faults(how: str) -> int:
        environment = {name: value for name, value in os.environ.items() if name != "THP_MEM_ALLOC_ENABLE"}
        done = subprocess.run(
            [sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True, env=environment
        )
        return int(done.stdout)

    if "[always]" in Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text():
        pytest.skip("pages are large without being asked for")
    pages = 3 * (80 << 20) // os.sysconf("SC_PAGE_SIZE")
    assert faults("given back") > pages // 2 > 10_000
    assert faults("kept") < pages // 10  # the system may take some back
