"""The users' rows on disk: a Faust table over RocksDB that is written by checkpoints.

A row is several values (`ranker.state.codec`): its head under the user's key, and each list under one that begins with
the user's. The table knows of no rows, only of keys and values.

The changelog is the state of record. RocksDB holds a copy of its confirmed prefix and the offset where that ends, both
written in one batch, so a kill at any moment leaves the copy equal to what the changelog says.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import takewhile
from typing import Any, NamedTuple

import faust
import rocksdict
from faust.stores import rocksdb

from ranker.contracts.errors import LiverankError
from ranker.state.codec import list_prefix
from streams.settings import TABLE, WorkerSettings

Key = tuple[int, bytes]  # partition and user id


class StoredRow(NamedTuple):
    """What is stored of a user."""

    head: bytes | None
    lists: dict[bytes, bytes]  # by their keys


class StoreError(LiverankError):
    """The disk does not give or take rows: no record's fault, so the process ends."""


#: For each partition; RocksDB's defaults in Faust are 2 GiB of block cache and 3 buffers of 64 MB for each.
_ROCKSDB_OPTIONS = {
    "max_open_files": 128,
    "write_buffer_size": 8 << 20,
    "max_write_buffer_number": 2,
    "target_file_size_base": 16 << 20,
    "block_cache_size": 8 << 20,
    "bloom_filter_size": 10,
}


class RowStore(rocksdb.Store):  # type: ignore[misc]
    """Faust's RocksDB store, with reads and writes that name their partition instead of taking it from an event."""

    mundane_level = "debug"  # of "Starting..." and the like

    def read(self, partition: int, user: bytes) -> StoredRow:
        """All that is stored of a user: also a list that no head knows of, since a kill came between the two.

        Raises:
            StoreError: it cannot be read.
        """
        prefix = list_prefix(user)
        try:
            db = self._db_for_partition(partition)
            lists = dict(takewhile(lambda entry: entry[0].startswith(prefix), db.items(from_key=prefix)))
            return StoredRow(db.get(user), lists)
        except Exception as error:  # RocksDB's errors have no class of their own
            raise StoreError(f"the rows of partition {partition} cannot be read: {error}; check the disk") from error

    def write(self, partition: int, values: Mapping[bytes, bytes | None], offset: int | None = None) -> None:
        """Store confirmed values (None: a tombstone), all or none; with `offset`, also that the changelog is copied up
        to there.
        """
        batch = rocksdict.WriteBatch(raw_mode=True)
        for key, value in values.items():
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        if offset is not None:
            batch.put(self.offset_key, str(offset).encode())
        self._db_for_partition(partition).write(batch)

    def compact(self, partition: int, user: bytes) -> None:
        """Have RocksDB drop earlier values of a user and the keys of lists that left, which stay in its files until it
        compacts them. Any thread may.

        Raises:
            StoreError: the disk does not take it.
        """
        try:
            db = self._db_for_partition(partition)
            db.flush()
            every = rocksdict.CompactOptions()
            every.set_bottommost_level_compaction(rocksdict.BottommostLevelCompaction.force())
            db.compact_range(user, list_prefix(user) + b"\xff", every)
        except Exception as error:
            raise StoreError(f"partition {partition} cannot be compacted: {error}; check the disk") from error


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
