"""What the C library does with memory that was freed. It is the whole process's, and glibc's alone is told anything."""

import ctypes
import platform
import sys

MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1  # malloc.h


def glibc() -> ctypes.CDLL | None:
    """Return the C library if it is glibc."""
    found = sys.platform == "linux" and platform.libc_ver()[0] == "glibc"
    return ctypes.CDLL(None) if found else None


def keep_freed() -> None:
    """Have freed memory kept for the next request.

    Training asks for the same sizes at every update. As it comes, glibc gives large pieces back to the system, which
    hands them out again page by page, cleared.
    """
    library = glibc()
    if library is not None:
        library.mallopt(MMAP_THRESHOLD, 1 << 30)
        library.mallopt(TRIM_THRESHOLD, (1 << 31) - 1)


def give_back_freed() -> None:
    """Give freed memory back to the system now, once: after much was freed in small pieces it would stay."""
    library = glibc()
    if library is not None:
        library.malloc_trim(0)
