"""What Linux tells of a process that runs."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from liverank.measure.processes import processor_seconds, resident_bytes
from ranker.contracts.errors import LiverankError


def test_what_is_allocated_is_held() -> None:
    """50 MB more, once they are written to."""
    before = resident_bytes(os.getpid())
    held = bytearray(b"x") * (50 << 20)  # one piece, which is mapped for itself
    assert 45e6 < resident_bytes(os.getpid()) - before < 80e6
    assert len(held) == 50 << 20


def test_processor_time_is_that_of_all_threads_and_modes() -> None:
    """As Python's own clock of it says, to two of Linux's ticks."""
    until = time.process_time() + 0.2
    while time.process_time() < until:
        os.getppid()
    assert processor_seconds(os.getpid()) == pytest.approx(time.process_time(), abs=0.03)


def test_a_process_that_has_ended() -> None:
    """It is named."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    with pytest.raises(LiverankError, match=f"process {process.pid} has ended"):
        processor_seconds(process.pid)
