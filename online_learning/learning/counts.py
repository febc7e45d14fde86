"""What is counted rather than trained: how often items are shown, chosen and touched, and what is visited next.

Counts go straight into the rows of a model's item tables, where features read them; so what is counted after a list
was ranked cannot reach that list's features.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain

import numpy as np

from ranker.items.catalog import UNKNOWN
from ranker.items.tables import STATISTICS, ItemTables

SHOWN, CHOSEN, TOUCHED = range(len(STATISTICS))
FOLLOWED_BACK = 5  # earlier items of a user that a new one follows
_BACK = 0.3  # of the inverse distance
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

    def follow(self, trail: Sequence[int], after: int) -> set[int]:
        """A user who had touched `trail`, oldest first, touched `after` next; all are catalogue indexes.

        Co-visitation is directed: 1/d² from an earlier item to one d steps later, and .3/d back where d is above 1. An
        item that is touched twice in a row follows itself.

        Returns:
            The indexes whose rows changed.
        """
        changed: set[int] = set()
        if not self.tables.has_neighbours or after == UNKNOWN:
            return changed
        self.tables.sync()
        for distance, before in enumerate(reversed(trail[-FOLLOWED_BACK:]), 1):
            if before == UNKNOWN or (before == after and distance > 1):
                continue
            self._add(before, after, 1 / distance**2)
            changed.add(before)
            if distance > 1:
                self._add(after, before, _BACK / distance)
                changed.add(after)
        return changed

    def _add(self, before: int, after: int, weight: float) -> None:
        slots = self.tables.neighbours.shape[1]
        counted = self._counted(before)
        counted[after] += weight  # type: ignore[assignment]  # a Counter of floats
        if len(counted) > 2 * _KEPT_PER_SLOT * slots:
            self._next[before] = counted = Counter(dict(counted.most_common(_KEPT_PER_SLOT * slots)))
        best = counted.most_common(slots)
        total = sum(counted.values()) + 1.0
        self.tables.neighbours[before, : len(best)] = self.tables.catalog.hashes[[index for index, _ in best]]
        self.tables.strengths[before, : len(best)] = [count / total for _, count in best]

    def forget(self, index: int) -> None:
        """Nothing was ever counted of an item."""
        self._next.pop(index, None)
        for array in (self.tables.statistics, self.tables.neighbours, self.tables.strengths):
            array[index] = 0

    def transitions(self) -> dict[str, np.ndarray]:
        """Who followed whom how often, by hashes of item ids: `before` and `after` int64, `count` float64."""
        hashes, rows = self.tables.catalog.hashes, self._next
        total = sum(map(len, rows.values()))  # into arrays of that length, not by way of a million small objects
        after = np.fromiter(chain.from_iterable(rows.values()), np.int64, total)
        return {
            "before": hashes[np.repeat(np.array(list(rows), np.int64), list(map(len, rows.values())))],
            "after": hashes[after],
            "count": np.fromiter(chain.from_iterable(row.values() for row in rows.values()), np.float64, total),
        }

    def restore(self, transitions: Mapping[str, np.ndarray]) -> None:
        """Go on from what `transitions` gave."""
        self._next = {}
        add = self.tables.catalog.add
        for before, after, count in zip(
            *(transitions[name].tolist() for name in ("before", "after", "count")), strict=True
        ):
            self._next.setdefault(add(before), Counter())[add(after)] = count

    def _counted(self, before: int) -> Counter[int]:
        """The followers of an item. Of one that only a bundle knows they are worked out from its strengths."""
        known = self._next.get(before)
        if known is None:
            touched = max(1.0, float(self.tables.statistics[before, TOUCHED]))
            rows = zip(self.tables.neighbours[before].tolist(), self.tables.strengths[before].tolist(), strict=True)
            add = self.tables.catalog.add
            known = Counter({add(item): strength * touched for item, strength in rows if item and strength})
            self._next[before] = known
        return known

    def _count(self, index: int, statistic: int) -> None:
        if index != UNKNOWN:
            self.tables.sync()
            self.tables.statistics[index, statistic] += 1
