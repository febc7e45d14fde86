"""How a process's heap is kept, so that what versions come and go with is given back to the system.

glibc alone has these settings; elsewhere nothing is changed.
"""

from __future__ import annotations

import ctypes
import sys
import threading
import time
from typing import Any

#: `malloc.h`: M_ARENA_MAX and M_MMAP_THRESHOLD.
_ARENA_MAX, _MMAP_THRESHOLD = -8, -3
#: Heaps that threads share. By default each of up to eight a core has its own, which stays as large as it ever was.
_ARENAS = 2
#: Arrays from here on are mapped one by one, and unmapped when they are freed. By default that limit rises with the
#: largest one freed, up to 32 MB, and from then on a version's tables lie among what stays.
_MAPPED = 1 << 20


#: Between two times that unused pages are given back. It takes some milliseconds, and as many to have them again. For
#: a process that makes something all the time, and for one that people wait for.
MAKER_S, SERVER_S = 5.0, 60.0


def settle_heap() -> None:
    """To be called before a process starts threads."""
    mallopt = _of_glibc("mallopt")
    if mallopt is not None:
        mallopt(_ARENA_MAX, _ARENAS)
        mallopt(_MMAP_THRESHOLD, _MAPPED)


def give_back() -> None:
    """Hand the heap's pages that hold nothing to the system. Those between what is in use are otherwise kept: where
    short-lived and long-lived things lie side by side, a process grows that holds no more than before.
    """
    trim = _of_glibc("malloc_trim")
    if trim is not None:
        trim(0)


def give_back_always(every_s: float) -> None:
    """`give_back` again and again, on a thread of its own, to the end of the process. Whoever allocates at that moment
    waits for it: so seldom where somebody waits for the process.

    Args:
        every_s: seconds between two times: `MAKER_S` or `SERVER_S`.
    """

    def run() -> None:
        while True:
            time.sleep(every_s)
            give_back()

    threading.Thread(target=run, name="heap", daemon=True).start()


def _of_glibc(name: str) -> Any:
    """A function of the C library; None where it has none."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
