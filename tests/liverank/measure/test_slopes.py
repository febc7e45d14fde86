"""The slope of a process's memory, and how steep it may be at most."""

from __future__ import annotations

import numpy as np
import pytest

from liverank.measure.slopes import growth

SECONDS = np.arange(0, 1200.0, 1.0)


def waves(rng: np.random.Generator, alike: float, deviation: float) -> np.ndarray:
    """Noise of first order: each second is like the one before."""
    steps = rng.normal(0, deviation * np.sqrt(1 - alike**2), len(SECONDS))
    values = np.empty(len(SECONDS))
    held = rng.normal(0, deviation)
    for at, step in enumerate(steps):
        held = values[at] = alike * held + step
    return values


def test_a_straight_line_is_found_exactly() -> None:
    """In MB an hour, with nothing left to doubt."""
    found = growth(SECONDS, 400 + 30 * SECONDS / 3600)
    assert found.slope_mb_per_h == found.high == found.least_slope_mb_per_h == found.least_high == 30.0
    assert (found.first_mb, found.last_mb, found.peak_mb) == (400.1, 409.9, 410.0)
    flat = growth(SECONDS, np.full(len(SECONDS), 400.0))
    assert (flat.slope_mb_per_h, flat.high) == (0.0, 0.0)


@pytest.mark.parametrize(("true", "alike"), [(0.0, 0.0), (0.0, 0.97), (40.0, 0.97)])
def test_the_upper_end_is_seldom_below_the_truth(true: float, alike: float) -> None:
    """Also where neighbouring looks are alike, as they are: a bound for independent ones would be far too low."""
    rng = np.random.default_rng(5)
    below = sum(growth(SECONDS, 400 + true * SECONDS / 3600 + waves(rng, alike, 5.0)).high < true for _ in range(300))
    assert below / 300 <= 0.06


def test_a_leak_shows_through_waves() -> None:
    """72 MB an hour in waves of 5 MB is told from nothing."""
    rng = np.random.default_rng(6)
    found = growth(SECONDS, 400 + 72 * SECONDS / 3600 + waves(rng, 0.9, 5.0))
    assert found.slope_mb_per_h > 40
    assert growth(SECONDS, 400 + waves(rng, 0.9, 5.0)).slope_mb_per_h < 20


def test_what_is_held_between_pieces_of_work_is_told_apart() -> None:
    """Pieces that take more and more while they last, above a floor that rises by 6 MB an hour."""
    hours = SECONDS / 3600
    work = np.where(SECONDS % 10 < 5, 100 + 300 * hours, 0.0)
    found = growth(SECONDS, 400 + 6 * hours + work)
    assert found.least_slope_mb_per_h == pytest.approx(6, abs=0.5)
    assert found.least_slope_mb_per_h <= found.least_high < 10
    assert found.slope_mb_per_h > 100


def test_too_few_looks_say_nothing() -> None:
    """It is an error rather than a line through two points."""
    with pytest.raises(ValueError, match="8 are needed"):
        growth([0, 1, 2], [1, 2, 3])
