"""The users' rows on disk: a Faust table over RocksDB that is written by checkpoints.

A row is several values (`ranker.state.codec`): its head under the user's key, and each list under one that begins with
the user's. The table knows of no rows, only of keys and values: what it calls a user is the name of a user's row
(`ranker.state.pseudonyms`).

The changelog is the state of record. RocksDB holds a copy of its confirmed prefix and the offset where that ends, both
written in one batch, so a kill at any moment leaves the copy equal to what the changelog says.

A copy that is damaged is set aside, and made anew of the whole changelog. RocksDB finds damage by its checksums, when
it opens a partition, reads or compacts it; of what was cut off its list of files (the manifest) it says nothing, so
each batch notes how long that was.
"""

from __future__ import annotations

import re
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
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


class DamagedStore(StoreError):
    """A partition's rows on disk are damaged, and are about to be made anew of the changelog."""


#: What RocksDB's errors begin with: they have no class of their own.
_DAMAGE = "Corruption"
#: Of an error while a partition is opened: a file is missing, or is none of RocksDB's.
_DAMAGE_OF_FILES = (_DAMAGE, "No such file", "Invalid argument", "Not implemented")
_LOCKED = "lock file"
#: Under this key: the manifest's name, and how long it was.
_MANIFEST_KEY = b"__liverank\0manifest"


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
    """Faust's RocksDB store, with reads and writes that name their partition instead of taking it from an event.

    The app is told what is wrong: `app.store_damaged` hears of a partition that was set aside, `app.share_out_anew` has
    all partitions assigned again, so that it is recovered, and `app.failed` ends the process.
    """

    mundane_level = "debug"  # of "Starting..." and the like

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._manifests: dict[int, Path] = {}  # of the open partitions
        self._rebuilding: set[int] = set()  # set aside, until their recovery begins
        self._set_aside: set[int] = set()  # in the life of this process

    def read(self, partition: int, user: bytes) -> StoredRow:
        """All that is stored of a user: also a list that no head knows of, since a kill came between the two.

        Raises:
            DamagedStore: the partition is recovered first.
            StoreError: it cannot be read.
        """
        if partition in self._rebuilding:
            raise DamagedStore(f"the rows of partition {partition} are about to be made anew")
        prefix = list_prefix(user)
        lists: dict[bytes, bytes] = {}
        db: Any = None
        place: Any = None
        try:
            db = self._db_for_partition(partition)
            head, place = db.get(user), db.iter()
            place.seek(prefix)
            while place.valid() and place.key().startswith(prefix):
                lists[place.key()] = place.value()
                place.next()
            place.status()  # raises where it stopped at damage
        except Exception as error:
            if _DAMAGE in str(error):
                db = place = None  # or the folder stays locked
                self._rebuild(partition, error)
                raise DamagedStore(f"the rows of partition {partition} are damaged: {error}") from error
            raise _of_disk(partition, "read", error) from error
        return StoredRow(head, lists)

    def write(self, partition: int, values: Mapping[bytes, bytes | None], offset: int | None = None) -> None:
        """Store confirmed values (None: a tombstone), all or none; with `offset`, also that the changelog is copied up
        to there. Where a partition is to be made anew they come back with it.

        Raises:
            StoreError: they cannot be written.
        """
        if partition in self._rebuilding:
            return
        batch = rocksdict.WriteBatch(raw_mode=True)
        for key, value in values.items():
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        try:
            if offset is not None:
                batch.put(self.offset_key, str(offset).encode())
                batch.put(_MANIFEST_KEY, self._noted(partition))
            self._db_for_partition(partition).write(batch)
        except Exception as error:
            self._rebuild_or_fail(partition, error)

    def compact(self, partition: int, user: bytes) -> None:
        """Have RocksDB drop earlier values of a user and the keys of lists that left, which stay in its files until it
        compacts them. Any thread may.

        Raises:
            StoreError: the disk does not take it.
        """
        if partition in self._rebuilding:
            return
        try:
            db = self._db_for_partition(partition)
            db.flush()
            every = rocksdict.CompactOptions()
            every.set_bottommost_level_compaction(rocksdict.BottommostLevelCompaction.force())
            db.compact_range(user, list_prefix(user) + b"\xff", every)
        except Exception as error:
            if _DAMAGE in str(error):
                return  # the next write hears of it as well, on the event loop
            raise StoreError(f"partition {partition} cannot be compacted: {error}; check the disk") from error

    def persisted_offset(self, tp: Any) -> int:
        """Up to where the changelog is copied; -1 where nothing is. A recovery begins with this question."""
        try:
            offset = super().persisted_offset(tp)
        except Exception as error:
            if _DAMAGE not in str(error):
                raise _of_disk(tp.partition, "read", error) from error
            self._set_aside_folder(tp.partition, error)
            offset = None
        self._rebuilding.discard(tp.partition)
        return -1 if offset is None else int(offset)

    def apply_changelog_batch(
        self, batch: Iterable[Any], to_key: Callable[[Any], Any], to_value: Callable[[Any], Any]
    ) -> None:
        """Copy records of the changelog in a recovery.

        Raises:
            StoreError: they cannot be written; the app is told, so that the process ends.
        """
        of_partition: defaultdict[int, list[Any]] = defaultdict(list)
        for event in batch:
            of_partition[event.message.partition].append(event)
        for partition, events in of_partition.items():
            if partition in self._rebuilding:
                continue
            try:
                super().apply_changelog_batch(events, to_key, to_value)
                self._db_for_partition(partition).put(_MANIFEST_KEY, self._noted(partition))
            except Exception as error:
                try:
                    self._rebuild_or_fail(partition, error)
                except StoreError as fatal:
                    self.app.failed(fatal)
                    raise

    async def _try_open_db_for_partition(
        self, partition: int, max_retries: int = 30, retry_delay: float = 1.0, generation_id: int = 0
    ) -> Any:
        """As Faust's, which takes every "block" in an error for a lock that somebody holds."""
        for left in reversed(range(max_retries)):
            try:
                return self._db_for_partition(partition)
            except StoreError as error:
                if _LOCKED not in str(error) or not left:
                    raise
            if generation_id != self.app.consumer_generation_id:
                return None
            await self.sleep(retry_delay)

    def _open_for_partition(self, partition: int) -> Any:
        """Open a partition's rows; where they are damaged, none.

        Raises:
            StoreError: the disk does not let it.
        """
        path = self.partition_path(partition)
        was, db = _manifest(path), None
        try:
            db = super()._open_for_partition(partition)
            noted = db.get(_MANIFEST_KEY)
            if noted is not None and not _reaches(was, noted):
                raise StoreError(f"{_DAMAGE}: {was[0].name} has {was[1]} bytes, it was {noted.decode()}")
        except Exception as error:
            if db is not None:
                db.close()
            if not any(kind in str(error) for kind in _DAMAGE_OF_FILES) or not path.exists():
                raise _of_disk(partition, "opened", error) from error
            self._set_aside_folder(partition, error)
            try:
                db = super()._open_for_partition(partition)
            except Exception as again:
                raise _of_disk(partition, "opened", again) from again
        self._manifests[partition] = _manifest(path)[0]
        return db

    def _noted(self, partition: int) -> bytes:
        """The manifest's name, and how long it is now."""
        self._db_for_partition(partition)
        path = self._manifests[partition]
        try:
            size = path.stat().st_size
        except FileNotFoundError:  # RocksDB has begun another one
            path, size = _manifest(self.partition_path(partition))
            self._manifests[partition] = path
        return f"{path.name} {size}".encode()

    def _rebuild_or_fail(self, partition: int, error: Exception) -> None:
        if isinstance(error, StoreError):
            raise error
        if _DAMAGE not in str(error):
            raise _of_disk(partition, "written", error) from error
        self._rebuild(partition, error)

    def _rebuild(self, partition: int, error: Exception) -> None:
        """While partitions are being served: set this one aside, and have it recovered."""
        self._set_aside_folder(partition, error)
        self.app.share_out_anew()

    def _set_aside_folder(self, partition: int, error: Exception) -> None:
        """Keep what is damaged, for who wants to look at it; an earlier one goes.

        Raises:
            StoreError: that was done before, so it is the disk.
        """
        db = self._dbs.pop(partition, None)
        if db is not None:
            with suppress(Exception):
                db.close()
        del db
        if partition in self._set_aside:
            raise StoreError(
                f"the rows of partition {partition} are damaged again, after they were made anew ({error}): check it"
            ) from error
        self._set_aside.add(partition)
        self._rebuilding.add(partition)
        path = self.partition_path(partition)
        aside = path.with_name(f"{path.name}.damaged")
        try:
            if aside.exists():
                shutil.rmtree(aside)
            path.rename(aside)
        except OSError as why:
            raise StoreError(f"{path} is damaged ({error}) and cannot be set aside: {why}") from why
        self.app.store_damaged(partition, aside, error)


def _of_disk(partition: int, what: str, error: Exception) -> StoreError:
    if isinstance(error, StoreError):
        return error
    return StoreError(
        f"the rows of partition {partition} cannot be {what}: {error}; check the disk, and its free space"
    )


def _manifest(path: Path) -> tuple[Path, int]:
    """The manifest that a database's folder names, and how long it is; a file of no length where there is none."""
    try:
        named = path / (path / "CURRENT").read_text(encoding="ascii").strip()
        return named, named.stat().st_size
    except (OSError, ValueError):
        return path / "", 0


def _reaches(manifest: tuple[Path, int], noted: bytes) -> bool:
    """Whether a manifest holds all that it once held, or is a later one: RocksDB begins one at each opening."""
    (path, size), (name, least) = manifest, noted.decode().split(" ")
    return path.name > name or (path.name == name and size >= int(least))


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


def check_folder(settings: WorkerSettings) -> None:
    """That a worker's folder holds no rows under other names: nobody would read them, nor take a forgotten user's away.

    Raises:
        StoreError: it does.
    """
    table, ours = settings.broker.table, re.compile(rf"({TABLE}(?:-[0-9a-f]{{8}})?)-\d+\.db(\.damaged)?")
    for path in sorted(settings.data.glob(f"v*/tables/{TABLE}-*")):
        named = ours.fullmatch(path.name)
        if named is not None and named[1] != table:
            raise StoreError(
                f"{path} is a copy of rows that are stored under another LIVERANK_PSEUDONYM_KEY than the one that is "
                "set, or under none: delete it, or set LIVERANK_DATA to an empty folder; rows come back from the "
                "changelog"
            )


def row_table(app: Any, settings: WorkerSettings) -> RowTable:
    """Declare the table of user rows on a Faust app."""
    table: RowTable = app.Table(
        settings.broker.table, partitions=settings.broker.partitions, key_type=bytes, value_type=bytes, default=bytes
    )
    return table
