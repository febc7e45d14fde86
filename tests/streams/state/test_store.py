"""Decoded rows in memory: what they may show and what they must keep."""

from __future__ import annotations

import pytest

from ranker.contracts.errors import RowError
from ranker.state.codec import ROW_VERSION, encode_row
from ranker.state.row import EMPTY, UserRow
from streams.state.cache import RowCache
from streams.state.store import Key


class Disk:
    """Stored rows, and how often they were read."""

    def __init__(self) -> None:
        self.rows: dict[Key, bytes] = {}
        self.reads = 0

    def read(self, partition: int, user: bytes) -> bytes | None:
        self.reads += 1
        return self.rows.get((partition, user))


def test_a_row_is_read_once_and_from_its_own_partition() -> None:
    """Two partitions may have held the same key; only the right one's row counts."""
    disk = Disk()
    disk.rows[1, b"u"] = encode_row(UserRow(revision=7))
    rows = RowCache(disk.read)
    assert rows.get((0, b"u")) is EMPTY
    assert rows.get((1, b"u")).revision == rows.get((1, b"u")).revision == 7
    assert disk.reads == 2


def test_a_row_that_is_not_on_disk_yet_is_never_evicted() -> None:
    """Else an older row would be read back, and the events between would be lost."""
    disk = Disk()
    rows = RowCache(disk.read, kept=2)
    rows.put((0, b"changed"), UserRow(revision=1))
    rows.put((0, b"writing"), UserRow(revision=2))
    rows.take_changed()
    rows.put((0, b"changed"), UserRow(revision=3))
    for number in range(20):
        rows.get((0, b"%d" % number))
    assert rows.get((0, b"changed")).revision == 3
    assert rows.get((0, b"writing")).revision == 2
    rows.take_changed()
    rows.written()
    for number in range(20):
        rows.get((0, b"%d" % number))
    assert rows.get((0, b"writing")) is EMPTY


def test_a_checkpoint_takes_each_changed_row_once_in_its_newest_version() -> None:
    """A row changed twice is written once; one changed during the write is written by the next checkpoint."""
    rows = RowCache(Disk().read)
    rows.put((0, b"u"), UserRow(revision=1))
    rows.put((0, b"u"), UserRow(revision=2))
    assert rows.take_changed() == {(0, b"u"): UserRow(revision=2)}
    rows.put((0, b"u"), UserRow(revision=3))
    rows.written()
    assert rows.take_changed() == {(0, b"u"): UserRow(revision=3)}
    assert rows.take_changed() == {}


def test_nothing_is_kept_when_partitions_may_have_left() -> None:
    """Another worker may have written since: the row is read anew."""
    disk = Disk()
    rows = RowCache(disk.read)
    rows.put((0, b"u"), UserRow(revision=1))
    rows.clear()
    disk.rows[0, b"u"] = encode_row(UserRow(revision=9))
    assert rows.get((0, b"u")).revision == 9
    assert rows.take_changed() == {}


def test_a_row_of_a_later_release_is_refused() -> None:
    """It must not be taken for an empty one and overwritten."""
    disk = Disk()
    disk.rows[0, b"u"] = bytes([ROW_VERSION + 1])
    with pytest.raises(RowError, match="version"):
        RowCache(disk.read).get((0, b"u"))


@pytest.mark.parametrize("stored", [b"\x93garbage", b"\x01\xc1", encode_row(UserRow(events=b"x" * 30)), b"\x00{}"])
def test_a_damaged_row_is_set_aside(stored: bytes) -> None:
    """It is told of, its user starts from the empty row, and what comes of that is stored."""
    disk, told = Disk(), []
    disk.rows[0, b"u"] = stored
    rows = RowCache(disk.read, damaged=lambda key, kept, why: told.append((key, kept)))
    assert rows.get((0, b"u")) is EMPTY
    assert told == [((0, b"u"), stored)]
    rows.put((0, b"u"), UserRow(revision=1))
    assert rows.take_changed() == {(0, b"u"): UserRow(revision=1)}
