"""A set of millions of numbers in some eight bytes each."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

FRESH = 1 << 17  # numbers that wait to be sorted in, at least


class HashSet:
    """A set of 64-bit hashes: a sorted array, and a small set of those that came since it was sorted."""

    def __init__(self, fresh: int = FRESH) -> None:
        """
        Args:
            fresh: numbers that wait to be sorted in; an eighth of the others where that is more.
        """
        self._least = fresh
        self._sorted = np.zeros(0, np.int64)
        self._fresh: set[int] = set()

    def __contains__(self, number: int) -> bool:
        if number in self._fresh:
            return True
        at = int(self._sorted.searchsorted(number))
        return at < len(self._sorted) and int(self._sorted[at]) == number

    def __len__(self) -> int:
        self._sort_in()
        return len(self._sorted)

    def add(self, number: int) -> bool:
        """Put a number in; whether it is new."""
        if number in self:
            return False
        self.update((number,))
        return True

    def update(self, numbers: Iterable[int]) -> None:
        """Put numbers in."""
        self._fresh.update(numbers)
        if len(self._fresh) > max(self._least, len(self._sorted) // 8):
            self._sort_in()

    def _sort_in(self) -> None:
        if self._fresh:
            fresh = np.fromiter(self._fresh, np.int64, len(self._fresh))
            self._sorted = np.union1d(self._sorted, fresh)
            self._fresh.clear()
