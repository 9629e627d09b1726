"""Keep the memory that a step frees for the next one, on the CPU."""

import ctypes
import sys

_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD = -3, -1  # mallopt(3)


def keep_freed_memory() -> None:
    """Let glibc keep what tensors free, up to 1 GiB, where it would return large blocks to the system at once.

    They come back zeroed page by page, which costs up to twice as much as the arithmetic on them: a batch of
    256×3×32×32 through blur, impulses and a box took 800 to 2,500 page faults, and then took none and two thirds of
    the time. Does nothing on other systems and C libraries.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 32 << 20)  # the largest that glibc takes
        mallopt(_M_TRIM_THRESHOLD, 1 << 30)
