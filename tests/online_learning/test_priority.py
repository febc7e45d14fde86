"""The trainer leaves the processor to others, in a process of its own since nobody gets a priority back."""

from __future__ import annotations

import subprocess
import sys

import pytest

from online_learning.priority import yield_to_others
from ranker.errors import SchemaError


@pytest.mark.parametrize("nice", [0, 7, 19])
def test_the_process_is_as_nice_as_asked(nice: int) -> None:
    """All threads that start later are, too; where sessions are scheduled as groups, the session is."""
    script = (
        "import os, sys, threading; from pathlib import Path; from online_learning.priority import yield_to_others\n"
        "yield_to_others(int(sys.argv[1])); found = []\n"
        "thread = threading.Thread(target=lambda: found.append(os.nice(0))); thread.start(); thread.join()\n"
        "session = Path('/proc/self/autogroup')\n"
        "print(os.nice(0), *found, session.read_text().split()[-1] if session.exists() else sys.argv[1])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(nice)], capture_output=True, text=True, check=True, start_new_session=True
    )
    assert done.stdout.split() == [str(nice)] * 3


@pytest.mark.parametrize("nice", [-1, 20])
def test_a_wrong_number_is_refused(nice: int) -> None:
    """The error names the valid ones."""
    with pytest.raises(SchemaError, match=rf"trainer_nice is {nice}; valid are 0 to 19"):
        yield_to_others(nice)
