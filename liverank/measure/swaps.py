"""How a swap shows in the latency: events during swaps against events of the quiet stretches before them.

Pure: times in seconds of one clock, all figures in milliseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from msgspec import Struct

from liverank.measure.ratios import p99_ratio, p99_ratio_interval, spread_ms


class Swap(NamedTuple):
    """One swap: a quiet stretch, then everything from the announcement to some time after the first new ranking."""

    version: str
    quiet_from: float
    announced: float
    served: float  # the first ranking by the version came
    until: float


class Timed(NamedTuple):
    """An event and the ranking that covers it."""

    produced: float
    consumed: float


class SwapFigures(Struct, frozen=True, kw_only=True):
    """Latencies in milliseconds, event produced to ranking consumed.

    `p99_ratio` is p99 during / before, `p99_ratio_interval` its 95% interval by resampling swaps. `p99_ratio_quiet` is
    the same ratio of two halves of the quiet stretches: what this machine makes of no difference at all.
    """

    before_ms: dict[str, float]
    during_ms: dict[str, float]
    p99_ratio: float
    p99_ratio_interval: tuple[float, float]
    p99_ratio_quiet: float
    load_s: dict[str, float]  # announcement to first ranking


def split_by_swap(events: Sequence[Timed], swaps: Sequence[Swap]) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each swap the latencies before and during it, float64 in milliseconds.

    An event is `during` where any moment between its production and its ranking lies in the swap; `before` where all of
    them lie in the quiet stretch. Every other event is in neither.
    """
    produced = np.array([event.produced for event in events])
    consumed = np.array([event.consumed for event in events])
    latency = 1000 * (consumed - produced)
    parts = []
    for swap in swaps:
        during = (consumed >= swap.announced) & (produced <= swap.until)
        before = (produced >= swap.quiet_from) & (consumed < swap.announced)
        parts.append((latency[before], latency[during]))
    return parts


def figures(parts: Sequence[tuple[np.ndarray, np.ndarray]], swaps: Sequence[Swap], seed: int = 0) -> SwapFigures:
    """The figures of what `split_by_swap` gave; every part holds events."""
    before = [part for part, _ in parts]
    during = [part for _, part in parts]
    loads = [swap.served - swap.announced for swap in swaps]
    return SwapFigures(
        before_ms=spread_ms(np.concatenate(before)),
        during_ms=spread_ms(np.concatenate(during)),
        p99_ratio=p99_ratio(during, before),
        p99_ratio_interval=p99_ratio_interval(during, before, seed),
        p99_ratio_quiet=p99_ratio([part[1::2] for part in before], [part[::2] for part in before]),
        load_s={"p50": round(float(np.median(loads)), 3), "max": round(max(loads), 3)},
    )
