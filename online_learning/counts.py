"""What is counted rather than trained: how often items are shown, chosen and touched, and what is visited next.

Counts go straight into the rows of a model's item tables, where features read them; so what is counted after a list
was ranked cannot reach that list's features.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from ranker.catalog import UNKNOWN
from ranker.tables import STATISTICS, ItemTables

SHOWN, CHOSEN, TOUCHED = range(len(STATISTICS))
_KEPT_PER_SLOT = 4  # transitions remembered for each neighbour that a row has room for


class ItemCounts:
    """Counts into the item tables, one event at a time, in the order of events."""

    def __init__(self, tables: ItemTables) -> None:
        self.tables = tables
        self._next: dict[int, Counter[int]] = {}

    def show(self, indexes: np.ndarray) -> None:
        """A list was shown: int64 catalogue indexes of its items, each once."""
        self.tables.sync()
        self.tables.statistics[indexes, SHOWN] += 1
        self.tables.statistics[UNKNOWN] = 0

    def choose(self, index: int) -> None:
        """An item was chosen from a list."""
        self._count(index, CHOSEN)

    def touch(self, index: int) -> None:
        """An item was touched, in a list or elsewhere."""
        self._count(index, TOUCHED)

    def follow(self, before: int, after: int) -> None:
        """A user who had touched `before` touched `after` next; both are catalogue indexes."""
        slots = self.tables.neighbours.shape[1]
        if not slots or UNKNOWN in (before, after) or before == after:
            return
        self.tables.sync()
        counted = self._next.setdefault(before, Counter())
        counted[after] += 1
        if len(counted) > 2 * _KEPT_PER_SLOT * slots:
            self._next[before] = counted = Counter(dict(counted.most_common(_KEPT_PER_SLOT * slots)))
        best = counted.most_common(slots)
        row = [self.tables.catalog.hashes[index] for index, _ in best]
        total = sum(counted.values()) + 1.0
        self.tables.neighbours[before, : len(best)] = row
        self.tables.strengths[before, : len(best)] = [count / total for _, count in best]

    def _count(self, index: int, statistic: int) -> None:
        if index != UNKNOWN:
            self.tables.sync()
            self.tables.statistics[index, statistic] += 1
