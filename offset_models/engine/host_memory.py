"""What the C library does with freed memory: given back when a model leaves, kept while one is trained."""

import ctypes
import os
from collections.abc import Callable
from typing import Any, Final

_M_TRIM_THRESHOLD: Final = -1  # malloc.h
_M_MMAP_MAX: Final = -4


def give_back() -> None:
    """glibc keeps freed memory in the pools of the threads that asked for it; other libraries have no such call."""
    trim = _glibc("malloc_trim")
    if trim is not None:
        trim(0)


def keep_freed() -> None:
    """Large blocks come from the heap and stay there when they are freed, in huge pages where torch can ask for them.

    For training: a step frees and takes again many times [positions, vocabulary], and each time the system would map
    and clear every page of it anew. Call it before torch's first tensor; nothing happens where there is no glibc.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    mallopt = _glibc("mallopt")
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, -1)


def _glibc(name: str) -> Callable[..., Any] | None:
    function: Callable[..., Any] | None = getattr(ctypes.CDLL(None), name, None)
    return function
