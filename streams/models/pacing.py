"""Pacing: work that goes on beside rankings takes no more of a core, and of the interpreter, than is left over."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

#: A seventh of a core is what a load may take from the users being served; pauses are within these limits.
PAUSES, PAUSE_S, _LONGEST_PAUSE_S = 6.0, 0.002, 0.1
#: For so long a thread of ours may keep the interpreter while another one asks for it. Python's default is 5 ms: with a
#: version loading beside it, an event that changes threads several times would wait that long several times.
_HAND_OVER_S = 0.0005


class Pace:
    """Work of a thread that goes on beside what matters more: after each piece a pause of some times the processor time
    that the piece took, within limits.

    What it waited for a core, or for the interpreter, was given to others already, and counts for nothing. Threads of
    ONNX Runtime's own, of which there are none where `threads` is 1, are not seen.
    """

    def __init__(self, pauses: float) -> None:
        """
        Args:
            pauses: length of a pause, in processor times of the piece before it; 0: no pauses.
        """
        self._pauses, self._since = pauses, time.thread_time()

    def rest(self) -> None:
        """A piece of the work is done."""
        if self._pauses:
            length = self._pauses * (time.thread_time() - self._since)
            time.sleep(min(max(length, PAUSE_S), _LONGEST_PAUSE_S))
        self._since = time.thread_time()


@contextmanager
def giving_way() -> Iterator[None]:
    """Meanwhile threads that wait for the interpreter get it sooner."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(_HAND_OVER_S)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
