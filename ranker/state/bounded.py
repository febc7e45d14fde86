"""A cache of so many bytes that lets go of what was used longest ago, and about how many bytes rows and lists take."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

from ranker.state.row import CurrentList, UserRow

Name = TypeVar("Name")
Held = TypeVar("Held")

_EVICTED_AT_ONCE = 8  # so that no call takes long; each adds one
_ROW, _LIST, _FIELD, _STRING = 1200, 750, 150, 57  # bytes of Python's objects beside what they hold


class BoundedCache(Generic[Name, Held]):
    """Any thread may call; a value's size must not change while it is held."""

    def __init__(
        self,
        most: int,
        size: Callable[[Held], int],
        pinned: Callable[[Name], bool] = lambda key: False,
        left: Callable[[Name], None] = lambda key: None,
    ) -> None:
        """
        Args:
            most: bytes of all values; the newest one is held however large it is.
            size: of a value, in bytes.
            pinned: whether a value must stay for now: it counts as used.
            left: hears of what was let go of.
        """
        self.most, self.bytes = most, 0
        self._size, self._pinned, self._left = size, pinned, left
        self._held: OrderedDict[Name, Held] = OrderedDict()
        self._lock = threading.RLock()

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, key: Name) -> bool:
        return key in self._held

    def get(self, key: Name) -> Held | None:
        """A value, which counts as used; None where it is not held."""
        with self._lock:
            value = self._held.get(key)
            if value is not None:
                self._held.move_to_end(key)
            return value

    def peek(self, key: Name) -> Held | None:
        """A value, which does not count as used."""
        return self._held.get(key)

    def put(self, key: Name, value: Held) -> None:
        """Hold a value, in place of the one before."""
        with self._lock:
            self.pop(key)
            self._held[key] = value
            self.bytes += self._size(value)
            for _ in range(_EVICTED_AT_ONCE):
                if self.bytes <= self.most or len(self._held) == 1:
                    return
                oldest = next(iter(self._held))
                if self._pinned(oldest):
                    self._held.move_to_end(oldest)
                else:
                    self.pop(oldest)
                    self._left(oldest)

    def pop(self, key: Name) -> None:
        """Let go of a value, if it is held."""
        with self._lock:
            value = self._held.pop(key, None)
            if value is not None:
                self.bytes -= self._size(value)

    def pop_oldest(self, count: int) -> bool:
        """Let go of so many values; whether there are more."""
        with self._lock:
            for key in [key for key, _ in zip(self._held, range(count), strict=False)]:
                self.pop(key)
            return bool(self._held)

    def clear(self) -> None:
        """Let go of everything."""
        with self._lock:
            self._held.clear()
            self.bytes = 0


def list_bytes(listed: CurrentList) -> int:
    """About what a list takes in memory, with its hashes: its items' ids are taken for as long as the first one."""
    longest = _STRING + len(listed.item_ids[0]) if listed.item_ids else 0
    return _LIST + len(listed.item_ids) * (longest + 16) + len(listed.features) + _FIELD * len(listed.context)


def row_bytes(row: UserRow) -> int:
    """About what a decoded row takes in memory, its lists included."""
    own = len(row.events) + len(row.summary) + _FIELD * (len(row.attributes) + len(row.applied) + len(row.topics))
    return _ROW + own + sum(map(list_bytes, row.lists))
