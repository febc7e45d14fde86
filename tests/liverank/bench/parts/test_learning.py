"""What is measured of learning is learning: each example once, of the sizes that were asked for."""

from __future__ import annotations

import pytest
from rich.console import Console

from liverank.bench.parts.learning import LearningOptions, bench_learning
from ranker.contracts.errors import LiverankError


def test_each_example_is_learned_from() -> None:
    """All that were asked for, though the last batch is not full, and a rate that belongs to the time."""
    options = LearningOptions(examples=40, items=60, candidates=12, history=5, batch=16)
    found = bench_learning(options, Console(quiet=True))
    assert found["examples"] == 40
    assert found["examples_per_second"] == pytest.approx(1000 / found["cpu_ms"], rel=0.01)


def test_sizes_that_do_not_fit_are_refused() -> None:
    """Before anything is made."""
    with pytest.raises(LiverankError, match="candidates 2 to items"):
        bench_learning(LearningOptions(items=10, candidates=11), Console(quiet=True))
