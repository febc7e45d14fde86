"""Waiting for what comes about."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


def eventually(what: str, holds: Callable[[], Any], deadline_s: float = 60.0) -> Any:
    """The first true value that `holds` gives, asked again until the deadline."""
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        if found := holds():
            return found
        time.sleep(0.05)
    raise AssertionError(f"not within {deadline_s:.0f} s: {what}")
