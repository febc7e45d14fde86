"""Disks that are damaged or full, under real workers: rows come back with the changelog, and an end has its reason."""

from __future__ import annotations

import os
import re
import resource
import sys
from pathlib import Path

import pytest

from liverank.settings import changed
from streams.kafka.connection import partition_of
from tests.support.installation import Installation, Worker, assert_state_and_rankings
from tests.support.load import Load
from tests.support.trainer_process import Process
from tests.support.waiting import eventually

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits are set from outside on Linux alone")
LIMIT = 400 << 10  # bytes of a file


def folder(worker: Worker, partition: int) -> Path:
    """Where a partition's rows are."""
    return worker.folder / "data" / "v1" / "tables" / f"rows-{partition}.db"


def newest(path: Path, pattern: str) -> Path:
    return max(path.glob(pattern), key=lambda found: found.name)


def overwrite(path: Path, at: int, size: int) -> None:
    """As a disk does that gives back something else."""
    with path.open("rb+") as file:
        file.seek(at)
        file.write(os.urandom(size))


def truncate(path: Path, size: int) -> None:
    """As a disk does that has forgotten the end."""
    with path.open("rb+") as file:
        file.truncate(size)


def loaded(installation: Installation, name: str, seconds: float) -> None:
    """Inputs for a while, all of them handled."""
    load = Load(installation, 300.0, users=120, name=name)
    load.start()
    eventually("so many inputs are sent", lambda: load.sent >= 300 * seconds)
    load.finish()
    installation.all_handled()


def test_damaged_rows_come_back_with_the_changelog(installation: Installation) -> None:
    """Of a killed worker the list of tables is cut off in one partition, its name is gone in another, a table is
    overwritten in a third and the log in the fourth; a table that is read later is overwritten while the worker runs.
    """
    worker = installation.worker("damaged").start().ready()
    loaded(installation, "before", 2)
    worker.stop()
    worker.start().ready()  # what was in RocksDB's log is in a table now
    loaded(installation, "between", 2)
    worker.kill()
    manifest, current, table, log = (folder(worker, partition) for partition in range(4))
    truncate(newest(manifest, "MANIFEST-*"), newest(manifest, "MANIFEST-*").stat().st_size // 2)
    (current / "CURRENT").write_bytes(b"")
    overwritten = newest(table, "*.sst")
    overwrite(overwritten, 0, overwritten.stat().st_size)
    overwrite(newest(log, "*.log"), 100, 2000)
    worker.start().ready()
    loaded(installation, "after", 2)
    assert_state_and_rankings(installation)
    told = [line for line in worker.log.splitlines() if "on disk are damaged" in line]
    assert {f"partition {partition}" for partition in range(3)} <= {
        line.split(" of ")[1].split(" on ")[0] for line in told
    }
    assert all(path.with_name(f"{path.name}.damaged").is_dir() for path in (manifest, current, table))
    assert "Traceback" not in worker.log
    worker.stop()


def limited(pid: int, size: int) -> None:
    """No file of the process may grow beyond so many bytes: as on a full disk, writing fails."""
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, size))


def ends(worker: Worker) -> str:
    """The one line with which it ends by itself; its status is 1."""
    assert worker.process is not None
    assert worker.process.wait(60) == 1, worker.log[-3000:]
    worker.process = None
    last = worker.log.strip().splitlines()[-1]
    assert " CRITICAL " in last, worker.log[-3000:]
    assert "Traceback" not in worker.log, worker.log[-3000:]
    return last


def is_full(last: str) -> bool:
    """Whether the line says what could not be written, and why."""
    return "the rows of partition 1 cannot be written" in last and "File too large" in last


def users_of(installation: Installation, partition: int, count: int) -> list[str]:
    """Names whose rows lie in one partition."""
    partitions = installation.settings.broker.partitions
    names = (f"wide-{number}" for number in range(10_000))
    return [name for name in names if partition_of(name.encode(), partitions) == partition][:count]


def test_a_full_disk_ends_a_worker_with_its_reason(installation: Installation) -> None:
    """Also where it fills up in the midst of a recovery; with room again the worker comes back, and nothing is lost."""
    worker = installation.worker("full").start().ready()
    assert worker.process is not None
    limited(worker.process.pid, LIMIT)
    producer = installation.producer()
    for number, user in enumerate(users_of(installation, 1, 60)):
        items = ", ".join(f'{{"item_id": "item-{number}-{item:0150}"}}' for item in range(80))
        producer.produce("candidates", f'{{"request_id": "r", "user_id": "{user}", "items": [{items}]}}', user)
    assert producer.flush(30) == 0
    assert is_full(ends(worker))
    worker.start().ready()
    installation.all_handled()
    assert_state_and_rankings(installation)
    worker.stop()
    empty = installation.worker("filling").start()
    assert empty.process is not None
    limited(empty.process.pid, LIMIT)
    assert is_full(ends(empty))
    empty.start().ready()
    loaded(installation, "room", 1)
    assert_state_and_rankings(installation)
    empty.stop()


def test_a_full_disk_ends_a_trainer_with_its_reason(installation: Installation) -> None:
    """At its next checkpoint, of which nothing counts: with room again it goes on from the one before."""
    folder = installation.folder / "learns"
    own = {"ready_file": folder / "ready", "trainer_data": folder, "trainer_metrics_port": -1, "bundle_s": 1.0}
    folder.mkdir()
    trainer = Process(changed(installation.settings, **own), folder)
    trainer.ready()
    limited(trainer.pid, LIMIT // 2)
    last = trainer.ended().strip().splitlines()[-1]
    assert " CRITICAL " in last
    assert re.search(r"the trainer ends: .*File too large.*state\.safetensors", last)
    assert "Traceback" not in trainer.log
    again = Process(trainer.settings, folder)
    again.ready()
    assert again.stop() == 0
