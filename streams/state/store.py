"""The users' rows: a Faust table over RocksDB that is written by checkpoints, and the decoded rows in memory above it.

The changelog is the state of record. RocksDB holds a copy of its confirmed prefix and the offset where that ends, both
written in one batch, so a kill at any moment leaves the copy equal to what the changelog says.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import faust
import rocksdict
from faust.stores import rocksdb

from ranker.state.codec import decode_row
from ranker.state.row import UserRow
from streams.kafka.admin import TABLE
from streams.settings import WorkerSettings

Key = tuple[int, bytes]  # partition and user id

#: For each partition; RocksDB's defaults in Faust are 2 GiB of block cache and 3 buffers of 64 MB for each.
_ROCKSDB_OPTIONS = {
    "max_open_files": 128,
    "write_buffer_size": 8 << 20,
    "max_write_buffer_number": 2,
    "target_file_size_base": 16 << 20,
    "block_cache_size": 8 << 20,
    "bloom_filter_size": 10,
}
_ROWS_KEPT = 20_000


class RowStore(rocksdb.Store):  # type: ignore[misc]
    """Faust's RocksDB store, with reads and writes that name their partition instead of taking it from an event."""

    mundane_level = "debug"  # of "Starting..." and the like

    def read(self, partition: int, user: bytes) -> bytes | None:
        """A stored row, None where there is none."""
        found: bytes | None = self._db_for_partition(partition).get(user)
        return found

    def write(self, partition: int, rows: Mapping[bytes, bytes], offset: int | None = None) -> None:
        """Store confirmed rows, all or none; with `offset`, also that the changelog is copied up to there."""
        batch = rocksdict.WriteBatch(raw_mode=True)
        for user, row in rows.items():
            batch.put(user, row)
        if offset is not None:
            batch.put(self.offset_key, str(offset).encode())
        self._db_for_partition(partition).write(batch)


class RowTable(faust.Table):  # type: ignore[misc]
    """The table that Faust assigns, recovers and closes; its store is a `RowStore`."""

    mundane_level = "debug"  # of "Starting..." and the like

    def _new_store(self) -> RowStore:
        return RowStore(
            self.app.conf.store,
            self.app,
            self,
            table_name=self.name,
            key_type=bytes,
            value_type=bytes,
            key_serializer="raw",
            value_serializer="raw",
            options=dict(_ROCKSDB_OPTIONS),
            loop=self.loop,
        )

    @property
    def store(self) -> RowStore:
        """The rows on disk."""
        store: RowStore = self.data
        return store


def row_table(app: Any, settings: WorkerSettings) -> RowTable:
    """Declare the table of user rows on a Faust app."""
    table: RowTable = app.Table(
        TABLE, partitions=settings.broker.partitions, key_type=bytes, value_type=bytes, default=bytes
    )
    return table


class RowCache:
    """Decoded rows by partition and user: the lately used ones, and all whose newest version is not on disk yet."""

    def __init__(self, read: Callable[[int, bytes], bytes | None], kept: int = _ROWS_KEPT) -> None:
        """
        Args:
            read: gives the stored row of a partition's user.
            kept: decoded rows in memory, beside those that wait for a checkpoint.
        """
        self._read = read
        self._kept = kept
        self._rows: OrderedDict[Key, UserRow] = OrderedDict()
        self._changed: dict[Key, UserRow] = {}
        self._writing: dict[Key, UserRow] = {}

    def get(self, key: Key) -> UserRow:
        """A user's row; the empty row where there is none.

        Raises:
            RowError: a stored row that this release cannot read.
        """
        row = self._rows.get(key)
        if row is not None:
            self._rows.move_to_end(key)
            return row
        row = self._rows[key] = decode_row(self._read(*key) or b"")
        self._evict()
        return row

    def put(self, key: Key, row: UserRow) -> None:
        """A user's row after an input that changed it."""
        self._rows[key] = self._changed[key] = row

    def take_changed(self) -> dict[Key, UserRow]:
        """The rows put since the last call. They stay in memory until `written`."""
        self._writing, self._changed = self._changed, {}
        return self._writing

    def written(self) -> None:
        """What `take_changed` gave is on disk."""
        self._writing = {}

    def clear(self) -> None:
        """Partitions may have left: another worker may write these rows before they are read here again."""
        for rows in (self._rows, self._changed, self._writing):
            rows.clear()

    def _evict(self) -> None:
        """Drop the row used longest ago. One that is not on disk yet counts as used now."""
        if len(self._rows) <= self._kept:
            return
        oldest = next(iter(self._rows))
        if oldest in self._changed or oldest in self._writing:
            self._rows.move_to_end(oldest)
        else:
            del self._rows[oldest]
