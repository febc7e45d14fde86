"""How a process's heap is kept, so that what versions come and go with is given back to the system.

glibc alone has these settings; elsewhere nothing is changed.
"""

from __future__ import annotations

import ctypes
import sys

#: `malloc.h`: M_ARENA_MAX and M_MMAP_THRESHOLD.
_ARENA_MAX, _MMAP_THRESHOLD = -8, -3
#: Heaps that threads share. By default each of up to eight a core has its own, which stays as large as it ever was.
_ARENAS = 2
#: Arrays from here on are mapped one by one, and unmapped when they are freed. By default that limit rises with the
#: largest one freed, up to 32 MB, and from then on a version's tables lie among what stays.
_MAPPED = 1 << 20


def settle_heap() -> None:
    """To be called before a process starts threads."""
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_ARENA_MAX, _ARENAS)
        mallopt(_MMAP_THRESHOLD, _MAPPED)
