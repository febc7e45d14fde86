"""The memory of a large log is told of the processes that read it."""

from __future__ import annotations

import pytest
from rich.console import Console

from liverank.bench.parts.memory import MemoryOptions, bench_memory
from ranker.contracts.errors import LiverankError


@pytest.mark.slow
def test_a_small_log_is_checked_and_learned_from() -> None:
    """Both commands run in processes of their own, whose peaks are those of real work, and what they report is told."""
    found = bench_memory(MemoryOptions(lists=300, length=10, items=50, users=40), Console(quiet=True))
    assert found["check"]["lists"] == 300
    assert found["train"]["examples"] >= found["check"]["choices"] > 200
    assert 0.05 < found["check"]["peak_gib"] < found["train"]["peak_gib"] < 4
    assert found["machine"]["cpus"] >= 1


def test_sizes_that_cannot_be_are_refused() -> None:
    """A list longer than the catalogue: said before anything is written."""
    with pytest.raises(LiverankError, match="items at least as many as length"):
        bench_memory(MemoryOptions(items=10, length=50), Console(quiet=True))
