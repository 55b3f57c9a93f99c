"""What a model that was removed leaves in the C library's pools goes back to the system."""

import ctypes


def give_back() -> None:
    """glibc keeps freed memory in the pools of the threads that asked for it; other libraries have no such call."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
