"""Decoded rows in memory: what they may show and what they must keep."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from ranker.contracts.clock import now_ms
from ranker.contracts.errors import RowError
from ranker.state.codec import ROW_VERSION, decode_row, encode_list, encode_row, list_key, list_prefix
from ranker.state.pseudonyms import RowNames
from ranker.state.row import EMPTY, CurrentList, UserRow
from streams.settings import WorkerSettings
from streams.state.cache import RowCache
from streams.state.store import Key, StoredRow, StoreError, check_folder


class Disk:
    """Stored rows, and how often they were read."""

    def __init__(self) -> None:
        self.rows: dict[Key, bytes] = {}
        self.reads = 0

    def read(self, partition: int, user: bytes) -> StoredRow:
        self.reads += 1
        lists = {
            name: value
            for (at, name), value in self.rows.items()
            if at == partition and name.startswith(list_prefix(user))
        }
        return StoredRow(self.rows.get((partition, user)), lists)


def taken(rows: RowCache) -> dict[Key, UserRow]:
    """The rows that a checkpoint takes."""
    return {key: changed.row for key, changed in rows.take_changed().items()}


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
    rows = RowCache(disk.read, most=3000)
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
    assert taken(rows) == {(0, b"u"): UserRow(revision=2)}
    rows.put((0, b"u"), UserRow(revision=3))
    rows.written()
    assert taken(rows) == {(0, b"u"): UserRow(revision=3)}
    assert taken(rows) == {}


def test_nothing_is_kept_when_partitions_may_have_left() -> None:
    """Another worker may have written since: the row is read anew."""
    disk = Disk()
    rows = RowCache(disk.read)
    rows.put((0, b"u"), UserRow(revision=1))
    rows.clear()
    disk.rows[0, b"u"] = encode_row(UserRow(revision=9))
    assert rows.get((0, b"u")).revision == 9
    assert taken(rows) == {}


def test_a_row_of_a_later_release_is_refused() -> None:
    """It must not be taken for an empty one and overwritten."""
    disk = Disk()
    disk.rows[0, b"u"] = bytes([ROW_VERSION + 1])
    with pytest.raises(RowError, match="version"):
        RowCache(disk.read).get((0, b"u"))


@pytest.mark.parametrize(
    "stored", [b"\x93garbage", b"\x01\xc1", b"\x02\xc1", encode_row(UserRow(events=b"x" * 30)), b"\x00{}"]
)
def test_a_damaged_row_is_set_aside(stored: bytes) -> None:
    """It is told of, its user starts from an empty row that counts as later, and what comes of that is stored."""
    disk, told = Disk(), []
    disk.rows[0, b"u"] = stored
    rows = RowCache(disk.read, damaged=lambda key, kept, why: told.append((key, kept)))
    before = now_ms()
    row = rows.get((0, b"u"))
    assert row == replace(EMPTY, epoch=row.epoch) and row.epoch >= before
    assert told == [((0, b"u"), stored)]
    rows.put((0, b"u"), UserRow(revision=1))
    assert taken(rows) == {(0, b"u"): UserRow(revision=1)}


def a_list(request: str, ts: int, *items: str) -> CurrentList:
    return CurrentList(ts, request, None, {}, items or ("a",), (), b"")


def write(disk: Disk, rows: RowCache) -> list[bytes]:
    """A checkpoint onto the disk: the keys in the order in which they were written."""
    written: list[bytes] = []
    for (partition, _), changed in rows.take_changed().items():
        for key, value in changed.values().items():
            written.append(key)
            if value is None:
                del disk.rows[partition, key]
            else:
                disk.rows[partition, key] = value
    rows.written()
    return written


def test_an_event_rewrites_the_head_alone() -> None:
    """A list is written when it comes, before the head; when it leaves its tombstone is; and a row is put together of
    its pieces."""
    disk = Disk()
    rows, key = RowCache(disk.read), (0, b"u")
    one, two = a_list("r1", 1), a_list("r2", 2, "b", "c")
    rows.put(key, UserRow(revision=1, lists=(one, two)))
    assert write(disk, rows) == [list_key(b"u", "r1"), list_key(b"u", "r2"), b"u"]
    rows.put(key, UserRow(revision=2, lists=(one, two)))
    assert write(disk, rows) == [b"u"]
    again = RowCache(disk.read)
    row = again.get(key)
    assert row == UserRow(revision=2, lists=(one, two))
    again.put(key, UserRow(revision=3, lists=(row.lists[1], a_list("r3", 3))))
    assert write(disk, again) == [list_key(b"u", "r1"), list_key(b"u", "r3"), b"u"]
    again.put(key, UserRow(revision=4, lists=(row.lists[1].ended(), a_list("r3", 9))))
    assert write(disk, again) == [list_key(b"u", "r2"), list_key(b"u", "r3"), b"u"]
    assert [name for _, name in disk.rows] == [b"u", list_key(b"u", "r3")]


def test_a_row_of_version_1_is_written_in_pieces() -> None:
    """The value that held all is replaced by a head."""
    disk, key = Disk(), (0, b"u")
    whole = msgspec.msgpack.encode([{"clicks": 1}, 1, 0, b"", b"", 0, [5, "r", None, {}, ["a"], [], b""]])
    disk.rows[key] = b"\x01" + whole
    rows = RowCache(disk.read)
    row = rows.get(key)
    assert row.current[0].item_ids == ("a",)
    rows.put(key, msgspec.structs.replace(row, revision=2))
    assert write(disk, rows) == [list_key(b"u", "r"), b"u"]
    assert decode_row(disk.rows[key]).current == ()
    assert RowCache(disk.read).get(key) == rows.get(key)


def test_a_list_of_no_head_is_taken_away() -> None:
    """A kill came before the head, and what then came first erased the user: nothing of the list may stay."""
    disk, key = Disk(), (0, b"u")
    disk.rows[0, list_key(b"u", "r")] = encode_list(a_list("r", 1))
    rows = RowCache(disk.read)
    assert rows.get(key) == EMPTY
    rows.put(key, UserRow(revision=1, erased_at=5))
    assert write(disk, rows) == [list_key(b"u", "r"), b"u"]
    assert list(disk.rows) == [key]


def test_a_damaged_list_costs_itself() -> None:
    """The user goes on without it, and it is told of."""
    disk, told, key = Disk(), [], (0, b"u")
    rows = RowCache(disk.read)
    rows.put(key, UserRow(revision=1, lists=(a_list("r1", 1), a_list("r2", 2))))
    write(disk, rows)
    disk.rows[0, list_key(b"u", "r1")] = b"\x02\xc1"
    again = RowCache(disk.read, damaged=lambda key, kept, why: told.append(kept))
    assert [listed.request_id for listed in again.get(key).current] == ["r2"]
    assert told == [b"\x02\xc1"]


class CountedNames(RowNames):
    """Pseudonyms, and whose were asked for."""

    def __init__(self) -> None:
        super().__init__("a key that is long enough")
        self.asked: list[bytes] = []

    def of(self, user: bytes) -> bytes:
        self.asked.append(user)
        return super().of(user)


def test_with_a_key_rows_are_stored_under_pseudonyms_alone() -> None:
    """Head and lists alike, and their tombstones; with the key they are found again, without it they are not."""
    disk, names, key = Disk(), RowNames("a key that is long enough"), (0, b"someone")
    rows = RowCache(disk.read, names=names)
    rows.put(key, UserRow(revision=1, lists=(a_list("r1", 1), a_list("r2", 2))))
    name = names.of(b"someone")
    assert write(disk, rows) == [list_key(name, "r1"), list_key(name, "r2"), name]
    again = RowCache(disk.read, names=RowNames("a key that is long enough"))
    row = again.get(key)
    assert row == UserRow(revision=1, lists=(a_list("r1", 1), a_list("r2", 2)))
    again.put(key, UserRow(revision=2, lists=row.lists[1:]))
    assert write(disk, again) == [list_key(name, "r1"), name]
    assert not any(b"someone" in stored or b"someone" in value for (_, stored), value in disk.rows.items())
    assert RowCache(disk.read, names=RowNames("another key, as long as it")).get(key) == EMPTY
    assert RowCache(disk.read).get(key) == EMPTY


def test_a_row_in_memory_is_hashed_once() -> None:
    """However many events and checkpoints come; one that had left is hashed again, and so are all after a rebalance."""
    disk, names, key = Disk(), CountedNames(), (0, b"u")
    rows = RowCache(disk.read, most=3000, names=names)
    for revision in range(1, 6):
        rows.put(key, msgspec.structs.replace(rows.get(key), revision=revision))
        write(disk, rows)
    assert names.asked == [b"u"]
    for number in range(20):
        rows.get((0, b"%d" % number))
    assert rows.get(key).revision == 5
    assert names.asked.count(b"u") == 2
    rows.clear()
    assert rows.get(key).revision == 5
    assert names.asked.count(b"u") == 3


def test_a_folder_with_rows_under_other_names_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of another key, or of none: ids would stay on the disk, and nobody would know. Damaged copies count too."""
    settings, tables = WorkerSettings(data=tmp_path), tmp_path / "v1" / "tables"
    (tables / "rows-3.db").mkdir(parents=True)
    check_folder(settings)
    monkeypatch.setenv("LIVERANK_PSEUDONYM_KEY", "a key that is long enough")
    with pytest.raises(StoreError, match=r"rows-3\.db is a copy of rows .*LIVERANK_PSEUDONYM_KEY.*LIVERANK_DATA"):
        check_folder(settings)
    (tables / "rows-3.db").rename(tables / f"{settings.broker.table}-3.db")
    check_folder(settings)
    (tables / "rows-3.db.damaged").mkdir()
    with pytest.raises(StoreError, match=r"rows-3\.db\.damaged"):
        check_folder(settings)
    (tables / "rows-3.db.damaged").rmdir()
    monkeypatch.delenv("LIVERANK_PSEUDONYM_KEY")
    with pytest.raises(StoreError, match=r"rows-[0-9a-f]{8}-3\.db is a copy"):
        check_folder(settings)
