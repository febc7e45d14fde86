"""What the model reads of a user's events, whatever the list is and whenever it is asked: kept, and extended.

A new event costs itself. Events that do not follow those that are there (late ones, an erasure, a window that moved)
are read anew. Pure but for what is kept; the same in serving and training.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ranker.contracts.schema import FeatureSchema
from ranker.features.list import cut
from ranker.items.catalog import UNKNOWN, Catalog
from ranker.state.row import EVENT


class EventArrays:
    """A user's visible events as arrays, of which the first `length` are filled.

    What was handed out stays as it is: later events are written behind it, and what is read anew has arrays of its own.
    """

    __slots__ = ("action", "events", "gap", "index", "item", "known", "length", "positive", "seconds", "value")

    def __init__(self) -> None:
        self._begin(0)

    def _begin(self, room: int) -> None:
        self.events = b""  # exactly those that are read
        self.length = self.known = 0  # `known`: items of the catalogue when unknown ones were last looked up
        self.positive = -1  # the place of the last positive action
        self.index = np.empty(room, np.int64)  # in the catalogue
        self.item = np.empty(room, np.int64)  # hashes
        self.action = np.empty(room, np.int64)
        self.seconds = np.empty(room, np.float64)
        self.gap = np.empty(room, np.float32)
        self.value = np.empty(room, np.float32)

    @staticmethod
    def size(window: int) -> int:
        """Bytes of a history with so much room."""
        return window * (4 * 8 + 2 * 4 + EVENT.itemsize) + _OWN

    def read(self, visible: bytes, catalog: Catalog, schema: FeatureSchema, room: int) -> None:
        """Hold these events, oldest first.

        Args:
            visible: EVENT records, see `UserRow.visible`.
            catalog: the items.
            schema: names actions.
            room: events for which there is room where they are read anew, at least as many as there are.
        """
        if not visible.startswith(self.events) or len(self.item) * EVENT.itemsize < len(visible):
            self._begin(room)
        if self.known != catalog.count:
            self._look_up(catalog)
        if len(visible) > len(self.events):
            self._extend(visible, catalog, schema)

    def _look_up(self, catalog: Catalog) -> None:
        """Items that the catalogue did not know may be there by now."""
        self.known = catalog.count
        unknown = np.flatnonzero(self.index[: self.length] == UNKNOWN)
        if len(unknown):
            self.index = self.index.copy()
            self.index[unknown] = _indexes(self.item[unknown], catalog)

    def _extend(self, visible: bytes, catalog: Catalog, schema: FeatureSchema) -> None:
        start, stop = self.length, len(visible) // EVENT.itemsize
        new = slice(start, stop)
        events = np.frombuffer(visible, EVENT, offset=start * EVENT.itemsize)
        actions, values = events["action"], events["value"]
        self.item[new] = events["item"]
        self.index[new] = _indexes(self.item[new], catalog)
        self.action[new] = actions
        if int(actions.max()) >= len(schema.actions):
            # Where one went back to an earlier schema rows may hold later actions, which are read as views.
            self.action[new] = np.where(actions < len(schema.actions), actions, 0)
        self.seconds[new] = events["ts"] / 1000.0
        times = self.seconds[max(start - 1, 0) : stop]
        self.gap[start] = 0
        self.gap[stop - len(times) + 1 : stop] = np.log1p(times[1:] - times[:-1])
        finite = np.isfinite(values)
        self.value[new] = np.where(finite, cut(values), 0) if finite.any() else 0
        (positive,) = schema.positive_numbers[actions].nonzero()
        if len(positive):
            self.positive = start + int(positive[-1])
        self.events, self.length = visible, stop


class ListPlaces:
    """Where the items of a history stand in one list, extended with it."""

    __slots__ = ("_found", "_items", "_length")

    def __init__(self) -> None:
        self._items = self._found = np.empty(0, np.int64)
        self._length = 0

    @staticmethod
    def size(window: int) -> int:
        """Bytes of the places of a history with so much room."""
        return 8 * window + _OWN

    def of(self, history: EventArrays, place: Mapping[int, int]) -> np.ndarray:
        """int64 [L]: each event's position in the list, -1 where its item is not in it.

        Args:
            history: the same one each time.
            place: hash of an item -> position; of the same list each time.
        """
        if self._items is not history.item:
            self._items, self._found, self._length = history.item, np.empty(len(history.item), np.int64), 0
        if self._length < history.length:
            new = slice(self._length, history.length)
            self._found[new] = [place.get(item, -1) for item in history.item[new].tolist()]
            self._length = history.length
        return self._found[: self._length]


_OWN = 900  # bytes of Python's objects and numpy's beside what they hold


def _indexes(items: np.ndarray, catalog: Catalog) -> list[int]:
    find = catalog.index_of.get
    return [find(item, UNKNOWN) for item in items.tolist()]
