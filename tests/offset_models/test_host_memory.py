"""Memory really falls."""

import os
import threading
from pathlib import Path

import pytest
import torch

from offset_models.host_memory import give_back


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(os.name != "posix" or not hasattr(os, "confstr"), reason="glibc only")
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
