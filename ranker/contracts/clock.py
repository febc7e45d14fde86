"""How time is told in every record: whole milliseconds since the epoch, UTC."""

from __future__ import annotations

import time


def now_ms() -> int:
    """The present by this machine's clock. Whoever asks for it is a process: the core is told what time it is."""
    return time.time_ns() // 1_000_000
