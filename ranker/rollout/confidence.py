"""Bounds of a mean that hold at every moment together, so that whoever looks all the time is not deceived by it.

A confidence sequence: Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas, "Time-uniform central limit theory and asymptotic
confidence sequences", 2021, theorem 2.2, with the boundary of the normal mixture. Where the mean moves with time the
bounds are of its average so far (their theorem 2.5), whatever the numbers before say about the next one.
"""

from __future__ import annotations

import math

from msgspec import Struct

#: Numbers at which the intervals are narrowest, compared with a test of a size fixed before.
_TUNED_FOR = 1000


class Arm(Struct, frozen=True):
    """Numbers seen so far, by count, sum and sum of squares."""

    count: int = 0
    total: float = 0.0
    squares: float = 0.0

    def plus(self, value: float) -> Arm:
        """One more."""
        return Arm(self.count + 1, self.total + value, self.squares + value * value)

    @property
    def mean(self) -> float:
        """0 before the first one."""
        return self.total / self.count if self.count else 0.0

    @property
    def variance(self) -> float:
        """Of numbers from 0 to 1."""
        return self.variance_within(0.0, 1.0)

    def variance_within(self, low: float, high: float) -> float:
        """As if the least and the largest possible number had been seen besides: never 0, so a few equal ones prove
        nothing.
        """
        count, total = self.count + 2, self.total + low + high
        squares = self.squares + low * low + high * high
        return max(0.0, squares / count - (total / count) ** 2)


def half_width(deviation: float, count: int, alpha: float) -> float:
    """How far the bounds lie from what was seen, so that with probability 1 - alpha they are never wrong.

    Args:
        deviation: the standard error of what was seen.
        count: of the numbers that it comes from, above 0.
        alpha: below .6.
    """
    scale = (-2 * math.log(alpha) + math.log(-2 * math.log(alpha)) + 1) / _TUNED_FOR
    spread = count * scale + 1
    return deviation * math.sqrt(2 * spread / (count * scale) * math.log(math.sqrt(spread) / alpha))


def bounds_of_difference(ours: Arm, theirs: Arm, alpha: float) -> tuple[float, float]:
    """Bounds of mean(ours) - mean(theirs), of numbers from 0 to 1; -1 and 1 where one side has none."""
    if not ours.count or not theirs.count:
        return -1.0, 1.0
    deviation = math.sqrt(ours.variance / ours.count + theirs.variance / theirs.count)
    half = half_width(deviation, ours.count + theirs.count, alpha)
    difference = ours.mean - theirs.mean
    return max(-1.0, difference - half), min(1.0, difference + half)
