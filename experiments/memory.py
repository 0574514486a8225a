"""What the process does with memory that it has freed."""

import ctypes
import os

MMAP_MAX, TRIM_THRESHOLD = -4, -1
"""Names of glibc's <malloc.h>."""
MOST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Have freed memory stay with this process for its next tensors; whether that could be asked for.

    By default glibc gives large blocks back to the system when they are freed, and the next tensor of that size costs a
    page fault for every 4 KiB: in a network's forward pass on a CPU, which frees at every layer, up to a fifth of the
    time (`a2mim bench units`). The price is that the process stays as large as it was at its largest, up to 2 GiB of
    free memory. What the environment asks for itself (MALLOC_…, GLIBC_TUNABLES) stays; another C library is left alone.
    """
    if any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ):
        return False
    set_option = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    return set_option is not None and bool(set_option(MMAP_MAX, 0)) and bool(set_option(TRIM_THRESHOLD, MOST))
