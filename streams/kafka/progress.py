"""How far each input partition has been handled: what to take of the next chunk, and what may be committed.

Faust drops records that it holds when a rebalance suspends or resumes its flow, and not every such drop is followed by
a seek. So nothing here goes by what was fetched, only by what was handled. A chunk says from which offset on it covers
its partition; one that begins beyond the next record in line makes the consumer go back. A gap inside what a chunk
covers is the topic's own: compaction, retention, the markers of a transaction.

A record that waits for something is held: those after it are handled, and the partition is committed up to it.
"""

from __future__ import annotations

from collections.abc import Mapping

Place = tuple[str, int]  # topic and partition


class Hold:
    """A record that must not be committed yet; what it is, is this object."""

    __slots__ = ("offset", "place")

    def __init__(self, place: Place, offset: int) -> None:
        self.place, self.offset = place, offset


class PartitionProgress:
    """Next offsets in line, by topic and partition, for as long as the partitions are this worker's."""

    def __init__(self) -> None:
        self._next: dict[Place, int] = {}
        self._handled: dict[Place, int] = {}
        self._held: dict[Place, list[Hold]] = {}
        self.restarts = 0  # of partitions, so far

    def start(self, committed: Mapping[Place, int]) -> None:
        """Partitions that came, with their committed offsets; 0 where nothing was ever committed."""
        for place, offset in committed.items():
            self._next.setdefault(place, offset)

    def clear(self) -> None:
        """All partitions may have left."""
        self._next.clear()
        self._handled.clear()
        self._held.clear()

    def restart(self, place: Place) -> None:
        """The partition is another one of the same name: it is read from its beginning."""
        self.restarts += 1
        self._handled.pop(place, None)
        self._held.pop(place, None)
        if place in self._next:
            self._next[place] = 0

    def expected(self, place: Place) -> int | None:
        """The next offset in line; None where the partition's committed offset is not known yet."""
        return self._next.get(place)

    def done(self, place: Place, offset: int) -> None:
        """The record's effects are on their way: a checkpoint that begins now covers it."""
        self._next[place] = self._handled[place] = offset + 1

    def hold(self, place: Place, offset: int) -> Hold:
        """Commit the partition up to this record at most, as long as it is held; to be called before it is done."""
        hold = Hold(place, offset)
        self._held.setdefault(place, []).append(hold)
        return hold

    def holds(self, hold: Hold) -> bool:
        """Whether the record is still held: not where its partition has left, or is another one, since."""
        return hold in self._held.get(hold.place, ())

    def release(self, hold: Hold) -> None:
        """The held record's effects are on their way too."""
        held = self._held[hold.place]
        held.remove(hold)
        if not held:
            del self._held[hold.place]
        self._handled[hold.place] = self._next[hold.place]

    @property
    def changed(self) -> bool:
        """Whether anything was handled since `take`."""
        return bool(self._handled)

    def take(self) -> dict[Place, int]:
        """The offsets to commit once all effects so far are confirmed: where reading would go on."""
        handled, self._handled = self._handled, {}
        held = {place: min(one.offset for one in self._held[place]) for place in handled if place in self._held}
        return {place: min(offset, held.get(place, offset)) for place, offset in handled.items()}
