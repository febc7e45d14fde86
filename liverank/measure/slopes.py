"""Whether a process's memory grows: a straight line through what it held, and how steep it may be at most.

Ordinary least squares over the means of equal blocks of time, and over the least in each of them: what is held between
two pieces of work, however much those take while they last. What a process holds goes up and down in waves that are
longer than a block, so neighbouring blocks are alike and tell less than as many independent ones would: the standard
error is widened by the residuals' correlation from one block to the next, r, as for an autoregression of first order,
by sqrt((1 + r) / (1 - r)) (G. Wilks, "Statistical Methods in the Atmospheric Sciences", section 5.2.4).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from msgspec import Struct

BLOCKS = 40
_LEAST_BLOCKS = 8
_MOST_ALIKE = 0.95
_HOUR_S = 3600.0


class Growth(Struct, frozen=True, kw_only=True):
    """What a process held over a stretch, in MB (10^6 bytes)."""

    slope_mb_per_h: float
    high: float  # upper end of the slope's 95 % interval, in MB an hour
    least_slope_mb_per_h: float  # both of the least in each block
    least_high: float
    first_mb: float  # means of the first and the last block
    last_mb: float
    peak_mb: float


def growth(seconds: Sequence[float], mb: Sequence[float], blocks: int = BLOCKS) -> Growth:
    """The line through what a process held.

    Args:
        seconds: when it was looked at, in rising order.
        mb: what it held then.
        blocks: of time, whose means the line goes through.

    Raises:
        ValueError: it was looked at too seldom.
    """
    times, values = np.asarray(seconds, float), np.asarray(mb, float)
    if len(times) < _LEAST_BLOCKS:
        raise ValueError(f"{len(times)} looks at a process's memory; {_LEAST_BLOCKS} are needed at least")
    parts = np.array_split(np.arange(len(times)), min(blocks, len(times)))
    hours = np.array([times[part].mean() for part in parts]) / _HOUR_S
    means = np.array([values[part].mean() for part in parts])
    slope, high = _line(hours, means)
    least_slope, least_high = _line(hours, np.array([values[part].min() for part in parts]))
    return Growth(
        slope_mb_per_h=slope,
        high=high,
        least_slope_mb_per_h=least_slope,
        least_high=least_high,
        first_mb=round(float(means[0]), 1),
        last_mb=round(float(means[-1]), 1),
        peak_mb=round(float(values.max()), 1),
    )


def _line(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Slope of the least squares line, and the upper end of its 95 % interval."""
    spread = float(((x - x.mean()) ** 2).sum())
    slope = float(((x - x.mean()) * (y - y.mean())).sum()) / spread
    left = y - y.mean() - slope * (x - x.mean())
    free = len(x) - 2
    error = math.sqrt(float((left**2).sum()) / free / spread)
    if (whole := float((left**2).sum())) > 0:
        alike = min(max(float((left[1:] * left[:-1]).sum()) / whole, 0.0), _MOST_ALIKE)
        error *= math.sqrt((1 + alike) / (1 - alike))
    return round(slope, 2), round(slope + _student(free) * error, 2)


def _student(free: int) -> float:
    """The 97.5 % point of Student's distribution, to 2 % from 6 degrees of freedom on (its first two Cornish-Fisher
    terms)."""
    z = 1.959964
    return z + (z**3 + z) / (4 * free) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * free**2)
