"""What is counted rather than trained: how often items are shown, chosen and touched, and what is visited next.

Counts go into the rows of a model's item tables, where features read them; so what is counted after a list was ranked
cannot reach that list's features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from online_learning.counting.followers import Followers
from ranker.items.catalog import UNKNOWN
from ranker.items.tables import STATISTICS, ItemTables

SHOWN, CHOSEN, TOUCHED = range(len(STATISTICS))
FOLLOWED_BACK = 5  # earlier items of a user that a new one follows
_BACK = 0.3  # of the inverse distance
_KEPT_PER_SLOT = 4  # transitions remembered for each neighbour that a row has room for


class ItemCounts:
    """Counts for the item tables, one event at a time, in the order of events.

    Statistics are in the tables at once. What follows what is there when `write` has been called.
    """

    def __init__(self, tables: ItemTables) -> None:
        self.tables = tables
        self._followers = Followers(_KEPT_PER_SLOT * tables.neighbours.shape[1])
        self._unwritten: set[int] = set()

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
        for distance, before in enumerate(reversed(trail[-FOLLOWED_BACK:]), 1):
            if before == UNKNOWN or (before == after and distance > 1):
                continue
            self._add(before, after, 1 / distance**2)
            changed.add(before)
            if distance > 1:
                self._add(after, before, _BACK / distance)
                changed.add(after)
        self._unwritten |= changed
        return changed

    def write(self) -> None:
        """Put what followed what since the last call into the rows."""
        if not self._unwritten:
            return
        tables, items = self.tables, np.array(list(self._unwritten), np.int64)
        self._unwritten.clear()
        tables.sync()
        followers, strengths = self._followers.heaviest(items, tables.neighbours.shape[1])
        tables.neighbours[items], tables.strengths[items] = tables.catalog.hashes[followers], strengths

    def forget(self, index: int) -> None:
        """Nothing was ever counted of an item."""
        self._followers.forget(index)
        self._unwritten.discard(index)
        for array in (self.tables.statistics, self.tables.neighbours, self.tables.strengths):
            array[index] = 0

    def transitions(self) -> dict[str, np.ndarray]:
        """Who followed whom how often, by hashes of item ids: `before` and `after` int64, `count` float64."""
        state, hashes = self._followers.state(), self.tables.catalog.hashes
        return {"before": hashes[state["before"]], "after": hashes[state["after"]], "count": state["count"]}

    def restore(self, transitions: Mapping[str, np.ndarray]) -> None:
        """Go on from what `transitions` gave, and the tables that belong to it."""
        add = self.tables.catalog.add_all
        self._unwritten.clear()
        self._followers.restore(
            {name: add(transitions[name]) for name in ("before", "after")} | {"count": transitions["count"]}
        )

    def _add(self, before: int, after: int, weight: float) -> None:
        if before not in self._followers:
            self._take_over(before)
        self._followers.add(before, after, weight)

    def _take_over(self, before: int) -> None:
        """The followers of an item that only a bundle knows, worked out from its strengths."""
        self.tables.sync()
        touched = max(1.0, float(self.tables.statistics[before, TOUCHED]))
        row = zip(self.tables.neighbours[before].tolist(), self.tables.strengths[before].tolist(), strict=True)
        known = [(item, strength * touched) for item, strength in row if item and strength]
        add = self.tables.catalog.add
        self._followers.put(before, [add(item) for item, _ in known], [count for _, count in known])

    def _count(self, index: int, statistic: int) -> None:
        if index != UNKNOWN:
            self.tables.sync()
            self.tables.statistics[index, statistic] += 1
