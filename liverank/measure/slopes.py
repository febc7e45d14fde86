"""Whether a process's memory grows: a straight line through what it held, and how steep it may be at most.

Ordinary least squares over the means of equal blocks of time. What a process holds goes up and down in waves that are
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
    x = np.array([times[part].mean() for part in parts]) / _HOUR_S
    y = np.array([values[part].mean() for part in parts])
    spread = float(((x - x.mean()) ** 2).sum())
    slope = float(((x - x.mean()) * (y - y.mean())).sum()) / spread
    left = y - y.mean() - slope * (x - x.mean())
    free = len(x) - 2
    error = math.sqrt(float((left**2).sum()) / free / spread)
    if (whole := float((left**2).sum())) > 0:
        alike = min(max(float((left[1:] * left[:-1]).sum()) / whole, 0.0), _MOST_ALIKE)
        error *= math.sqrt((1 + alike) / (1 - alike))
    return Growth(
        slope_mb_per_h=round(slope, 2),
        high=round(slope + _student(free) * error, 2),
        first_mb=round(float(y[0]), 1),
        last_mb=round(float(y[-1]), 1),
        peak_mb=round(float(values.max()), 1),
    )


def _student(free: int) -> float:
    """The 97.5 % point of Student's distribution, to 2 % from 6 degrees of freedom on (its first two Cornish-Fisher
    terms)."""
    z = 1.959964
    return z + (z**3 + z) / (4 * free) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * free**2)
