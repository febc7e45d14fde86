"""Before and during a swap: which events count where, and what the figures make of them."""

from __future__ import annotations

import numpy as np
import pytest

from liverank.measure.swaps import Swap, Timed, figures, split_by_swap

SWAP = Swap("v2", quiet_from=10.0, announced=20.0, served=22.0, until=23.0)


@pytest.mark.parametrize(
    ("produced", "consumed", "where"),
    [
        (9.99, 10.01, None),  # begun before the quiet stretch
        (10.0, 10.1, "before"),
        (19.9, 19.99, "before"),
        (19.9, 20.0, "during"),  # under way when the swap was announced
        (21.0, 21.1, "during"),
        (23.0, 40.0, "during"),
        (23.01, 23.1, None),
        (19.0, 40.0, "during"),  # held up by the whole swap
    ],
)
def test_where_an_event_counts(produced: float, consumed: float, where: str | None) -> None:
    """Whatever the swap may have held up counts against it; only what it cannot have touched is quiet."""
    ((before, during),) = split_by_swap([Timed(produced, consumed)], [SWAP])
    assert (len(before), len(during)) == (where == "before", where == "during")
    if where is not None:
        assert [*before, *during] == pytest.approx([1000 * (consumed - produced)])


def test_figures_of_slower_swaps() -> None:
    """Events that take twice as long during swaps give a ratio of 2, in every resample; the quiet control gives 1."""
    quiet = np.concatenate([np.full(990, 2.0), np.full(10, 8.0)])
    found = figures([(quiet, 2 * quiet)] * 3, [SWAP] * 3)
    assert (found.p99_ratio, found.p99_ratio_interval) == (2.0, (2.0, 2.0))
    assert found.p99_ratio_quiet == 1.0
    assert (found.before_ms["p50"], found.during_ms["p50"], found.during_ms["max"]) == (2.0, 4.0, 16.0)
    assert (found.before_ms["n"], found.load_s["max"]) == (3000, 2.0)


def test_one_bad_swap_shows_in_the_interval() -> None:
    """Where a single swap of ten makes the ratio, resampling them says how little that is worth."""
    calm = np.full(200, 2.0)
    stuck = np.concatenate([np.full(100, 2.0), np.full(100, 50.0)])
    found = figures([(calm, calm)] * 9 + [(calm, stuck)], [SWAP] * 10)
    low, high = found.p99_ratio_interval
    assert found.p99_ratio == 25.0
    assert (low, high) == (1.0, 25.0)
