"""What Linux tells of a process that runs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from liverank.measure.processes import processor_seconds, resident_bytes
from ranker.contracts.errors import LiverankError


@contextmanager
def running(program: str) -> Iterator[subprocess.Popen[str]]:
    """A Python process of its own, which does nothing that its program does not say."""
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        yield process
        process.stdin.close()  # type: ignore[union-attr]  # it waits for that


def said(process: subprocess.Popen[str]) -> str:
    return process.stdout.readline().strip()  # type: ignore[union-attr]


def test_what_is_written_to_is_held() -> None:
    """Memory that is mapped counts once something is in it."""
    with running(
        "import mmap, sys; held = mmap.mmap(-1, 50 << 20); print('mapped', flush=True); sys.stdin.readline();"
        "held.write(bytes(50 << 20)); print('written', flush=True); sys.stdin.readline()"
    ) as process:
        assert said(process) == "mapped"
        before = resident_bytes(process.pid)
        process.stdin.write("go on\n")  # type: ignore[union-attr]
        process.stdin.flush()  # type: ignore[union-attr]
        assert said(process) == "written"
        assert 45e6 < resident_bytes(process.pid) - before < 120e6  # those bytes, and perhaps what they came from


def test_processor_time_is_that_of_both_modes() -> None:
    """As Python's own clock of it says, to two of Linux's ticks."""
    with running(
        "import os, sys, time\nwhile time.process_time() < .2: os.getppid()\n"
        "print(time.process_time(), flush=True); sys.stdin.readline()"
    ) as process:
        used = float(said(process))
        assert processor_seconds(process.pid) == pytest.approx(used, abs=0.03)


def test_a_process_that_has_ended() -> None:
    """It is named."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    with pytest.raises(LiverankError, match=f"process {process.pid} has ended"):
        processor_seconds(process.pid)
