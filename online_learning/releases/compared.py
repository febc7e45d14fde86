"""Two rankers on the same examples, one example after the other: how much better one is, for certain."""

from __future__ import annotations

import math
from typing import NamedTuple

from msgspec import Struct

from ranker.rollout.confidence import Arm, half_width

#: Users below which nothing is certain: what is so of a few says nothing of all.
FEWEST_USERS = 10


class Bounds(NamedTuple):
    """Of a mean."""

    low: float
    high: float


class Compared(Struct, frozen=True):
    """The reciprocal rank that a ranker gave what was chosen, less that of another ranker.

    The examples come in the order of time, and neither ranker had learned from any of them when it ranked it. So the
    bounds hold however often one looks at them, and though lists of one user resemble each other: they are of the mean
    of what was to be expected of each example by those before it.
    """

    seen: Arm = Arm()
    users: tuple[int, ...] = ()  # whose they are: the first `FEWEST_USERS`

    def plus(self, difference: float, user: int) -> Compared:
        """One more example; the difference is from -1 to 1."""
        known = user in self.users or len(self.users) >= FEWEST_USERS
        return Compared(self.seen.plus(difference), self.users if known else (*self.users, user))

    @property
    def count(self) -> int:
        """Examples."""
        return self.seen.count

    @property
    def mean(self) -> float:
        """0 before the first one."""
        return self.seen.mean

    def bounds(self, alpha: float) -> Bounds:
        """Of the mean difference; at every moment together they hold with probability 1 - alpha."""
        if len(self.users) < FEWEST_USERS:
            return Bounds(-1.0, 1.0)
        error = math.sqrt(self.seen.variance_within(-1.0, 1.0) / self.seen.count)
        half = half_width(error, self.seen.count, alpha)
        return Bounds(max(-1.0, self.mean - half), min(1.0, self.mean + half))

    def worse(self, alpha: float) -> bool:
        """Whether the ranker is worse than the other for certain."""
        return self.bounds(alpha).high < 0

    def told(self, alpha: float) -> str:
        """In words."""
        low, high = self.bounds(alpha)
        return f"{self.mean:+.4f} [{low:+.4f}, {high:+.4f}]"


class Newest:
    """The newest examples of a comparison: begun anew every `most`, so that it speaks of lately."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._before = self._now = Compared()

    def add(self, difference: float, user: int) -> None:
        """One more example."""
        if self._now.count >= self._most:
            self._before, self._now = self._now, Compared()
        self._now = self._now.plus(difference, user)

    @property
    def value(self) -> Compared:
        """Since it was begun, or what it was before where it has hardly begun."""
        return self._before if self._now.count < min(self._before.count, self._most // 4) else self._now

    def restart(self) -> None:
        """Another ranker is compared from now on."""
        self._before = self._now = Compared()
