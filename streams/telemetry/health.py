"""Whether a worker is ready and alive, as its page tells whoever starts and stops it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from time import monotonic
from typing import NamedTuple

#: For so long the event loop may keep silent, and inputs may wait without one being handled.
LOOP_ANSWERS_S, STILL_S = 2.0, 60.0


class Doing(NamedTuple):
    """What a worker is doing."""

    handled: int  # inputs since it started
    waiting: bool  # whether fetched inputs wait, and not for the broker


class Health:
    """Asked on threads of the page's, told by the worker's event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.unready: str | None = "starting"  # what it does before it serves; None: it serves
        self._loop = loop
        self._work: Callable[[], Doing] = lambda: Doing(0, False)
        self._serves: Callable[[], bool] = lambda: True
        self._seen, self._since = Doing(0, False), monotonic()

    def follow(self, work: Callable[[], Doing], serves: Callable[[], bool]) -> None:
        """From here on there are inputs.

        Args:
            work: what is being done; any thread may ask.
            serves: whether partitions are being served, and not changing hands or recovered.
        """
        self._work, self._serves = work, serves

    def not_ready(self) -> str | None:
        """What is still to be done before inputs are handled; None where they are."""
        if self.unready is None and not self._serves():
            return "partitions change hands, or their rows are being recovered"
        return self.unready

    def dead(self, now: float | None = None) -> str | None:
        """Why only a restart would help; None where none is needed.

        A broker that is away is no reason: it is waited for.

        Args:
            now: seconds of the monotonic clock; the present where None.
        """
        answered = threading.Event()
        self._loop.call_soon_threadsafe(answered.set)
        if not answered.wait(LOOP_ANSWERS_S):
            return f"the event loop has not answered for {LOOP_ANSWERS_S:.0f} s"
        now, work = monotonic() if now is None else now, self._work()
        if not work.waiting or work.handled != self._seen.handled or not self._seen.waiting:
            self._since = now
        self._seen = work
        if now - self._since > STILL_S:
            return f"inputs wait, and none has been handled for {now - self._since:.0f} s"
        return None
