"""RocksDB under damage: what a partition's folder gives is a prefix of what was written, or it is made anew."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from faust.types import TP

from ranker.state.codec import list_prefix
from streams.app import WorkerApp, faust_app
from streams.settings import WorkerSettings
from streams.state.store import DamagedStore, RowStore, StoreError, row_table

USERS, ROUNDS, SEEDS = 40, 20, 3
Values = dict[bytes, bytes | None]


class Folder:
    """A partition's store over a folder, and what it tells of."""

    def __init__(self, data: Path) -> None:
        self.told: list[str] = []
        settings = WorkerSettings(data=data)
        app: WorkerApp = faust_app(settings)
        app.finalize()
        app._create_directories()
        app.store_damaged = lambda partition, aside, error: self.told.append(f"{aside.name}: {error}")
        app.failed = lambda error: self.told.append(f"failed: {error}")
        app.share_out_anew = lambda: self.told.append("shared out anew")  # type: ignore[method-assign]
        self.tp = TP(settings.broker.changelog, 0)
        self.store: RowStore = row_table(app, settings).store
        self.path = self.store.partition_path(0)

    def close(self) -> None:
        for db in self.store._dbs.values():
            db.close()
        self.store._dbs.clear()

    def held(self) -> tuple[int, dict[bytes, bytes]]:
        """Up to where the changelog is copied, and all that is read."""
        offset = self.store.persisted_offset(self.tp)
        rows: dict[bytes, bytes] = {}
        for number in range(USERS):
            user = b"user-%d" % number
            row = self.store.read(0, user)
            rows |= {} if row.head is None else {user: row.head}
            rows |= row.lists
        return offset, rows


def written(folder: Folder, rounds: int, seed: int, since: int = 0) -> list[dict[bytes, bytes]]:
    """Write in batches, as checkpoints do; what the rows are after each, by the offset that it ends with."""
    rng = random.Random(seed)
    held, after = {}, []
    for offset in range(rounds):
        batch: Values = {}
        for number in rng.sample(range(USERS), 8):
            user = b"user-%d" % number
            batch[list_prefix(user) + b"r%d" % rng.randrange(3)] = rng.choice([None, rng.randbytes(700)])
            batch[user] = b"%d:" % offset + rng.randbytes(200)
        if offset >= since:
            folder.store.write(0, batch, offset)
        held = {key: value for key, value in {**held, **batch}.items() if value is not None}
        after.append(held)
    return after


def newest(path: Path, pattern: str) -> Path:
    return max(path.glob(pattern), key=lambda found: found.name)


def truncate(path: Path, rng: random.Random) -> None:
    with path.open("rb+") as file:
        file.truncate(rng.randrange(path.stat().st_size))


def overwrite(path: Path, rng: random.Random) -> None:
    size = path.stat().st_size
    with path.open("rb+") as file:
        file.seek(at := rng.randrange(size))
        file.write(rng.randbytes(min(64, size - at)))


def empty(path: Path, rng: random.Random) -> None:
    path.write_bytes(b"")


def remove(path: Path, rng: random.Random) -> None:
    path.unlink()


class Before(msgspec.Struct):
    """A folder as a killed worker leaves it, and what the rows were after each batch."""

    data: Path
    after: list[dict[bytes, bytes]]


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Before:
    """Two tables, and a log with what is in none."""
    data = tmp_path_factory.mktemp("before")
    folder = Folder(data)
    written(folder, ROUNDS, seed=1)
    folder.close()
    folder = Folder(data)  # what was in the log is in a table now
    written(folder, 2 * ROUNDS, seed=1, since=ROUNDS)
    folder.store._dbs[0].flush()
    after = written(folder, 3 * ROUNDS, seed=1, since=2 * ROUNDS)
    shutil.copytree(data, data / "killed")
    folder.close()
    return Before(data / "killed", after)


@pytest.mark.parametrize("damage", [truncate, overwrite, empty, remove])
@pytest.mark.parametrize("pattern", ["*.sst", "*.log", "MANIFEST-*", "CURRENT", "OPTIONS-*", "*.json"])
def test_what_is_read_was_written_or_all_is_made_anew(
    pattern: str, damage: Callable[[Path, random.Random], None], before: Before, tmp_path: Path
) -> None:
    """Whichever file is damaged, and wherever: never a row that was not, or an offset that claims what is not there."""
    for seed in range(SEEDS):
        killed = tmp_path / f"killed-{seed}"
        shutil.copytree(before.data, killed)
        again = Folder(killed)
        damage(newest(again.path, pattern), random.Random(f"{pattern} {seed}"))
        try:
            offset, rows = again.held()
        except DamagedStore:
            assert again.told[-1] == "shared out anew"
            offset, rows = again.held()
        if again.told:
            assert (offset, rows) == (-1, {}), again.told
            assert again.path.with_name(f"{again.path.name}.damaged").is_dir()
        else:
            assert offset >= 0
            assert rows == before.after[offset], f"{pattern} {seed}: {offset}"
        again.close()
        shutil.rmtree(killed)


def test_rows_of_a_damaged_partition_come_back_with_the_changelog(tmp_path: Path) -> None:
    """Until its recovery begins nothing is read of it or written into it: a new offset would pass for a whole copy."""
    folder = Folder(tmp_path)
    written(folder, ROUNDS, seed=1)
    folder.close()
    folder = Folder(tmp_path)
    folder.store.persisted_offset(folder.tp)
    folder.close()
    table = newest(folder.path, "*.sst")
    kept = table.read_bytes()
    table.write_bytes(kept[: len(kept) // 2] + bytes(5000) + kept[len(kept) // 2 + 5000 :])
    folder = Folder(tmp_path)
    with pytest.raises(DamagedStore):
        folder.held()
    assert len(folder.told) == 2
    folder.store.write(0, {b"user-1": b"new"}, 99)
    with pytest.raises(DamagedStore):
        folder.store.read(0, b"user-1")
    assert folder.store.persisted_offset(folder.tp) == -1
    assert folder.store.read(0, b"user-1").head is None
    folder.store.write(0, {b"user-1": b"again"}, 100)
    assert folder.held() == (100, {b"user-1": b"again"})
    folder.close()


def test_a_folder_damaged_again_and_again_is_the_disks_fault(tmp_path: Path) -> None:
    """A second time in one process's life ends it: making rows anew for ever would hide a broken disk."""
    folder = Folder(tmp_path)
    for _ in range(2):
        written(folder, 3, seed=1)
        folder.close()
        (folder.path / "CURRENT").write_bytes(b"?")
        if folder.told:
            with pytest.raises(StoreError, match="damaged again"):
                folder.store.persisted_offset(folder.tp)
        else:
            assert folder.store.persisted_offset(folder.tp) == -1
    assert len(folder.told) == 1
    folder.close()


def test_an_error_of_the_disk_in_a_recovery_ends_the_process(tmp_path: Path) -> None:
    """Nobody may take the records for copied."""
    folder = Folder(tmp_path)
    folder.store._dbs[0] = Full()
    with pytest.raises(StoreError, match="partition 0 cannot be written: IO error: No space left"):
        folder.store.apply_changelog_batch([Record(folder.tp)], None, None)
    assert folder.told[0].startswith("failed: the rows of partition 0 cannot be written")
    folder.store._dbs.clear()


class Full:
    """A database on a full disk."""

    def write(self, batch: object) -> None:
        raise Exception("IO error: No space left on device: While appending to file")


class Record(msgspec.Struct):
    """A record of the changelog, as Faust hands it on."""

    tp: TP
    offset: int = 7
    key: bytes = b"u"
    value: bytes = b"v"
    partition: int = 0

    @property
    def message(self) -> Record:
        return self
