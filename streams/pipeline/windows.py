"""Open attribution windows, and the watermark of each partition that closes them."""

from __future__ import annotations

import heapq

from streams.state.store import Key

_MOST_OPEN = 200_000


class AttributionWindows:
    """Open attribution windows by partition, in the order in which they close. Bounded; one that finds no room is left
    to its user's next input.
    """

    def __init__(self, window_ms: int, most: int = _MOST_OPEN) -> None:
        self._window_ms, self._most = window_ms, most
        self._open: dict[int, list[tuple[int, bytes, str]]] = {}
        self._now: dict[int, int] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def opened(self, key: Key, request_id: str, ts: int) -> None:
        """A user got a new list."""
        if self._count < self._most:
            self._count += 1
            heapq.heappush(self._open.setdefault(key[0], []), (ts + self._window_ms, key[1], request_id))

    @property
    def due(self) -> list[int]:
        """Partitions of which windows have closed that nobody was told of yet."""
        return [
            partition for partition, heap in self._open.items() if heap and heap[0][0] < self._now.get(partition, 0)
        ]

    def closed(self, partition: int, ts: int | None, most: int) -> list[tuple[Key, str]]:
        """Whose windows have closed, now that the partition holds an event of this time: users and request ids.

        Args:
            partition: which one.
            ts: the event's; None asks for more of those that its events so far have closed.
            most: so many at once; others are `due`.
        """
        if ts is not None:
            self._now[partition] = max(ts, self._now.get(partition, ts))
        now = self._now.get(partition, 0)
        found: list[tuple[Key, str]] = []
        heap = self._open.get(partition)
        while heap and heap[0][0] < now and len(found) < most:
            _, user, request_id = heapq.heappop(heap)
            self._count -= 1
            found.append(((partition, user), request_id))
        return found

    def clear(self) -> None:
        """Partitions may have left."""
        self._open.clear()
        self._now.clear()
        self._count = 0
