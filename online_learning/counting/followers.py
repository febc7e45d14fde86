"""Of each item, which others were visited after it and how often: sums in arrays, of a size known beforehand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from ranker.items.catalog import grown


class Followers:
    """Sums of weights from one item to others, both by their catalogue indexes.

    An item's row holds the `kept` heaviest for certain, and up to as many more until it is full: then all but those
    are dropped. It takes 16 bytes for each that is kept. Rows of items that were forgotten are used again.
    """

    def __init__(self, kept: int) -> None:
        """
        Args:
            kept: others that an item's row is cut down to.
        """
        self._kept = kept
        self._rows: dict[int, int] = {}  # item -> its row
        self._free: list[int] = []
        self._used = np.zeros(0, np.int32)
        self._after = np.zeros((0, 2 * kept), np.int32)
        self._sums = np.zeros((0, 2 * kept), np.float32)

    def __contains__(self, item: int) -> bool:
        return item in self._rows

    def add(self, before: int, after: int, weight: float) -> None:
        """Add a weight from one item to another."""
        row = self._rows.get(before)
        if row is None:
            row = self._open(before)
        used = int(self._used[row])
        found = (self._after[row, :used] == after).nonzero()[0]
        if len(found):
            self._sums[row, found[0]] += weight
            return
        if used == 2 * self._kept:
            used = self._cut(row)
        self._after[row, used], self._sums[row, used] = after, weight
        self._used[row] = used + 1

    def put(self, before: int, after: Sequence[int] | np.ndarray, sums: Sequence[float] | np.ndarray) -> None:
        """Set an item's row; of more than it has room for, the last are left out."""
        row = self._rows[before] if before in self._rows else self._open(before)
        most = min(len(after), 2 * self._kept)
        self._after[row, :most], self._sums[row, :most] = after[:most], sums[:most]
        self._used[row] = most

    def heaviest(self, items: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
        """Of items int64 [n] that have rows, those that follow most.

        Returns:
            Catalogue indexes int64 [n, most], the heaviest first and 0 where there are fewer; and their shares float32
            [n, most] of all that is held of the item, and one more.
        """
        rows = np.array([self._rows[item] for item in items.tolist()], np.int64)
        held = np.arange(self._after.shape[1]) < self._used[rows, None]
        sums = np.where(held, self._sums[rows], 0.0)
        order = np.argsort(-sums, axis=1, kind="stable")[:, :most]
        best = np.take_along_axis(sums, order, axis=1)
        after = np.where(best > 0, np.take_along_axis(self._after[rows], order, axis=1), 0)
        return after.astype(np.int64), (best / (sums.sum(axis=1, keepdims=True) + 1.0)).astype(np.float32)

    def forget(self, item: int) -> None:
        """Nothing is known of what follows an item."""
        row = self._rows.pop(item, None)
        if row is not None:
            self._free.append(row)

    def state(self) -> dict[str, np.ndarray]:
        """Everything: `before` and `after` int64 catalogue indexes, `count` float64, one line a pair."""
        items, rows = np.array(list(self._rows), np.int64), np.array(list(self._rows.values()), np.int64)
        used = self._used[rows]
        held = np.arange(self._after.shape[1]) < used[:, None]
        return {
            "before": np.repeat(items, used),
            "after": self._after[rows][held].astype(np.int64),
            "count": self._sums[rows][held].astype(np.float64),
        }

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on from what `state` gave; an item's lines come one after the other."""
        self._rows, self._free = {}, []
        befores = state["before"]
        starts = [0, *(np.flatnonzero(np.diff(befores)) + 1).tolist(), len(befores)]
        for start, end in pairwise(starts):
            if start < end:
                self.put(int(befores[start]), state["after"][start:end], state["count"][start:end])

    def _open(self, item: int) -> int:
        row = self._free.pop() if self._free else len(self._rows)
        self._rows[item] = row
        if row >= len(self._used):
            for name in ("_used", "_after", "_sums"):
                setattr(self, name, grown(getattr(self, name), row + 1))
        self._used[row] = 0
        return row

    def _cut(self, row: int) -> int:
        best = np.argsort(-self._sums[row], kind="stable")[: self._kept]
        self._after[row, : self._kept], self._sums[row, : self._kept] = self._after[row, best], self._sums[row, best]
        return self._kept
