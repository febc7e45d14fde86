"""What a process has freed does not stay its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

# Small things that live and small things that go lie side by side, as in a trainer that makes versions.
_FRAGMENTED = """
import os
from liverank.measure.processes import resident_bytes
from liverank.serve.heap import give_back, settle_heap

settle_heap()
blocks = [os.urandom(1024) for _ in range(200_000)]
pages = [block for number, block in enumerate(blocks) if not number % 100]
del blocks
before = resident_bytes(os.getpid())
give_back()
print(before - resident_bytes(os.getpid()))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc alone has such a heap")
def test_pages_between_what_is_in_use_are_given_back() -> None:
    """Of 200 MB of which 198 were freed most are still the process's; then they are not."""
    told = subprocess.run([sys.executable, "-c", _FRAGMENTED], capture_output=True, text=True, check=True)
    assert int(told.stdout) > 100e6
