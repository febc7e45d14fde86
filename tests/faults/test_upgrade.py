"""A rolling upgrade under load: workers of an earlier release are replaced one by one, and nothing is lost."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from liverank.settings import Settings, changed
from ranker.state.row import EVENT, UserRow
from tests.support.installation import REPOSITORY, Installation
from tests.support.load import Load

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

#: The last commit whose rows are of version 1, whose checkpoints are fenced by clocks, and which knows one list a user.
EARLIER = "f2f642b"


@pytest.fixture
def earlier(tmp_path: Path) -> Iterator[Path]:
    """The earlier release's files, run with this one's dependencies."""
    git = ["git", "-C", str(REPOSITORY), "worktree"]
    if subprocess.run(["git", "-C", str(REPOSITORY), "cat-file", "-e", EARLIER], check=False).returncode:
        pytest.skip(f"this copy of the repository has no history: {EARLIER} is missing")
    files = tmp_path / "earlier"
    subprocess.run([*git, "add", "--detach", "--quiet", str(files), EARLIER], check=True)
    try:
        yield files
    finally:
        subprocess.run([*git, "remove", "--force", str(files)], check=True)


def test_workers_are_replaced_one_by_one_under_load(kafka: str, tmp_path: Path, earlier: Path) -> None:
    """Each keeps its data folder. Afterwards rows are the fold of all inputs, and each user's newest ranking covers
    it."""
    settings = changed(
        Settings(), brokers=kafka, registry=str(tmp_path / "registry"), app="upgraded", metrics_port=-1, lists=1
    )
    installation = Installation(settings, tmp_path)
    python = partial(subprocess.run, cwd=earlier, check=True)
    made = "import sys, pathlib; from tests.support.tiny import tiny_bundle; tiny_bundle(pathlib.Path(sys.argv[1]))"
    python([sys.executable, "-c", made, str(tmp_path / "registry")])
    given = {"LIVERANK_BROKERS": kafka, "LIVERANK_APP": "upgraded"}
    python([sys.executable, "-m", "liverank", "topics", "create"], env=os.environ | given)
    installation.create_topics()  # what has come since
    names = ("one", "two")
    try:
        before = [installation.worker(name, code=earlier).start().ready() for name in names]
        load = Load(installation, 100.0, users=60, name="upgrade")
        load.start()
        for worker, name in zip(before, names, strict=True):
            installation.handled_more()
            worker.stop()
            installation.worker(name).start().ready()
            installation.handled_more()
        load.finish()
        installation.all_handled()
        assert_nothing_lost(installation)
        for worker in installation.workers[len(names) :]:
            worker.stop()
    finally:
        installation.close()


def assert_nothing_lost(installation: Installation) -> None:
    """Rows against the fold, but for the keys of events, which have another form since; and the newest rankings."""
    stored, folded = installation.stored_rows(), installation.folded_rows()
    assert set(stored) == set(folded)
    wrong = {
        f"{key[1].decode()}: {name}": (said, told(row)[name])
        for key, row in folded.items()
        for name, said in told(stored[key]).items()
        if said != told(row)[name]
    }
    assert not wrong, wrong
    covered = {(one.user_id, one.request_id): one.applied for one in installation.rankings()}
    listed = {(key[1].decode(), row.current[-1].request_id): row.applied for key, row in stored.items() if row.current}
    assert listed
    assert {place: covered.get(place) for place in listed} == listed


def told(row: UserRow) -> dict[str, object]:
    """What a row says, whichever release has written it."""
    events = np.frombuffer(row.events, EVENT)
    return {
        "events": sorted(zip(events["ts"].tolist(), events["item"].tolist(), events["action"].tolist(), strict=True)),
        "count": row.count,
        "applied": row.applied,
        "attributes": row.attributes,
        "erased_at": row.erased_at,
        "list": [listed.request_id for listed in row.current[-1:]],
    }
