"""Tails of two things that were measured in turns: the ratio of their 99th percentiles, and how sure it is. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_RESAMPLES = 1000


def p99_ratio(over: Sequence[np.ndarray], under: Sequence[np.ndarray]) -> float:
    """The 99th percentile of some parts together over that of others."""
    above, below = (float(np.percentile(np.concatenate(parts), 99)) for parts in (over, under))
    return round(above / below, 3)


def p99_ratio_interval(over: Sequence[np.ndarray], under: Sequence[np.ndarray], seed: int = 0) -> tuple[float, float]:
    """Its 95 % interval, by resampling the turns: a part of each belongs together.

    Args:
        over: of each turn the one thing's latencies.
        under: of each turn the other's.
        seed: of the draws.
    """
    rng, ratios = np.random.default_rng(seed), []
    for _ in range(_RESAMPLES):
        drawn = rng.integers(0, len(over), len(over))
        ratios.append(p99_ratio([over[at] for at in drawn], [under[at] for at in drawn]))
    low, high = np.percentile(ratios, [2.5, 97.5])
    return round(float(low), 3), round(float(high), 3)


def spread_ms(latencies: np.ndarray) -> dict[str, float]:
    """`p50`, `p99`, `max` and `n` of latencies in milliseconds."""
    p50, p99 = np.percentile(latencies, [50, 99])
    return {
        "p50": round(float(p50), 3),
        "p99": round(float(p99), 3),
        "max": round(float(latencies.max()), 3),
        "n": len(latencies),
    }
