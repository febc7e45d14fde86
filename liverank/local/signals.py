"""Ctrl-C and SIGTERM, for commands that start processes: both end them in order, and neither cuts that end short."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

ENDING = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def handled(handler: Any, numbers: Iterable[int] = ENDING) -> Iterator[None]:
    """Signals go to a handler meanwhile; only the main thread may say so, elsewhere nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
