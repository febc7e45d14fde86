"""The newest of many numbers, to be known again: in memory that does not grow once they come in steadily."""

from __future__ import annotations

from array import array
from collections.abc import Iterable

import numpy as np

_BITS = 64
_SPREAD = 0x9E3779B97F4A7C15  # odd, so that multiplying by it loses nothing


class RecentHashes:
    """A set of 64-bit hashes that holds the newest `limit` that were put in, and at most as many before them.

    Two tables take turns: where the newer one is full, the older one is forgotten and filled anew. Each takes some 16
    bytes a number, all of them at once, where Python's own sets and dictionaries take 60 to 190 as numbers come.
    """

    def __init__(self, limit: int) -> None:
        """
        Args:
            limit: numbers that are known at least; 0 knows none.
        """
        self._limit = limit
        self._newer, self._older = _Table(limit), _Table(limit)

    def __contains__(self, number: int) -> bool:
        return number in self._newer or number in self._older

    def __len__(self) -> int:
        return len(self._newer) + len(self._older)

    def add(self, number: int) -> bool:
        """Put a number in; whether it is new."""
        if number in self:
            return False
        if not self._limit:
            return True
        if len(self._newer) == self._limit:
            self._newer, self._older = self._older, self._newer
            self._newer.clear()
        self._newer.add(number)
        return True

    def state(self) -> np.ndarray:
        """What to write down: int64, the oldest first."""
        return np.concatenate([self._older.numbers(), self._newer.numbers()])

    def restore(self, numbers: Iterable[int]) -> None:
        """Know these alone, the oldest first, as far as there is room."""
        self._newer.clear()
        self._older.clear()
        for number in numbers:
            self.add(number)


class _Table:
    """Numbers in the order in which they came, and an open-addressed table of their places (linear probing)."""

    def __init__(self, most: int) -> None:
        self._numbers = array("q", bytes(8 * most))
        self._shift = _BITS - max(1, (2 * most - 1).bit_length())  # never more than half full
        self._mask = (1 << (_BITS - self._shift)) - 1
        self._places = array("i", bytes(4 * (self._mask + 1)))  # from 1; 0 is free
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, number: int) -> bool:
        return bool(self._places[self._slot(number)])

    def add(self, number: int) -> None:
        """A number that is not in it; there is room."""
        self._numbers[self._count] = number
        self._count += 1
        self._places[self._slot(number)] = self._count

    def clear(self) -> None:
        self._places = array("i", bytes(4 * (self._mask + 1)))
        self._count = 0

    def numbers(self) -> np.ndarray:
        return np.array(self._numbers[: self._count], np.int64)

    def _slot(self, number: int) -> int:
        """Where the number is, or where it would go."""
        places, numbers = self._places, self._numbers
        at = (number * _SPREAD & (1 << _BITS) - 1) >> self._shift
        while (place := places[at]) and numbers[place - 1] != number:
            at = at + 1 & self._mask
        return at
