"""Kills and rebalances under load: no state, no event and no ranking is lost.

The short form runs everywhere; the environment's LIVERANK_FAULT_ROUNDS sets how many kills, and how many joins and
leaves, there are.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from pathlib import Path

import pytest

from liverank.local.broker import start_broker
from liverank.settings import Settings, changed
from tests.support.installation import Installation, Worker, assert_state_and_rankings
from tests.support.load import Load
from tests.support.tiny import tiny_bundle
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(3600)

ROUNDS = int(os.environ.get("LIVERANK_FAULT_ROUNDS", "0"))
RATE = 300.0


def report(what: str, installation: Installation, rounds: int) -> None:
    """Compare everything, and tell how much that was."""
    installation.all_handled()
    numbers = assert_state_and_rankings(installation)
    print("\n" + json.dumps({"test": what, "rounds": rounds, **numbers, "lost": 0}), file=sys.stderr)


def test_kills_lose_nothing(installation: Installation) -> None:
    """A worker killed at random moments comes back: rows and last rankings are as if nothing had happened."""
    rng, rounds = random.Random(1), ROUNDS or 3
    worker = installation.worker("killed").start().ready()
    load = Load(installation, RATE, users=200, name="kills")
    load.start()
    for _ in range(rounds):
        time.sleep(rng.uniform(0.2, 3.0))  # the random moment itself, nothing is waited for
        worker.kill()
        worker.start().ready()
    load.finish()
    report("kills", installation, rounds)
    assert "made anew" not in worker.log  # of no topic: what a checkpoint says of them is understood
    worker.stop()


def test_rebalances_lose_nothing(installation: Installation) -> None:
    """A second worker joins and leaves, in order and by kill in turn; each time partitions move under load."""
    rng, rounds = random.Random(2), ROUNDS or 4
    stays = installation.worker("stays").start().ready()
    load = Load(installation, RATE, users=200, name="rebalances")
    load.start()
    for number in range(rounds):
        # Half of the rounds it finds the rows of its last stay on its disk, in the others it starts with none.
        joins = installation.worker("joins" if number % 2 else f"joins-{number}").start().ready()
        time.sleep(rng.uniform(0.2, 3.0))
        if number % 4 < 2:
            joins.stop()
        else:
            joins.kill()
    load.finish()
    report("rebalances", installation, 2 * rounds)
    stays.stop()


def test_a_worker_that_stood_still_overwrites_nothing(installation: Installation) -> None:
    """Stopped for longer than the session timeout, it wakes up with partitions that another worker has had since."""
    still, other = (installation.worker(name).start().ready() for name in ("still", "other"))
    load = Load(installation, RATE, users=200, name="still")
    load.start()
    for _ in range(max(1, ROUNDS // 5)):
        time.sleep(2)
        still.pause()
        time.sleep(installation.settings.broker.session_timeout_s + 4)
        still.resume()
        time.sleep(2)
        if still.ended:
            assert_gave_up(still)
            still.start().ready()
    load.finish()
    report("stood still", installation, max(1, ROUNDS // 5))
    for worker in (still, other):
        if worker.ended:  # a machine that is slow enough makes the other one late too
            assert_gave_up(worker)
        else:
            worker.stop()


def test_a_worker_that_stood_still_before_its_first_checkpoint_overwrites_nothing(installation: Installation) -> None:
    """Then the group has no offset of it, and another worker is ahead of it from the first record on."""
    still = installation.worker("still", checkpoint_ms=3000).start().ready()
    load = Load(installation, RATE, users=50, name="first")
    load.start()
    eventually("it ranks", lambda: next(iter(installation.read("rankings")), None))
    still.pause()
    other = installation.worker("other").start().ready()
    load.finish()
    installation.all_handled()
    still.resume()
    eventually("it has let go", lambda: still.ended or "the group went on without this worker" in still.log)
    if still.ended:
        assert_gave_up(still)
    report("stood still at first", installation, 1)
    for worker in (still, other):
        if not worker.ended:
            worker.stop()


def assert_gave_up(worker: Worker) -> None:
    """It ended by itself: its transaction had lasted for longer than it may."""
    reasons = ("not delivered", "a checkpoint was not taken", "takes nothing any more")
    assert any(reason in worker.log for reason in reasons), worker.log[-2000:]


def test_a_broker_killed_under_load_loses_nothing(tmp_path: Path) -> None:
    """It comes back on the same port; the worker goes on, or ends with one line and is started again."""
    tiny_bundle(tmp_path / "registry")
    with start_broker("kafka", tmp_path / "broker") as broker:
        settings = changed(
            Settings(), brokers=broker.address, registry=str(tmp_path / "registry"), app="broker", metrics_port=-1
        )
        alone = Installation(settings, tmp_path)
        alone.create_topics()
        worker = alone.worker("worker").start().ready()
        load = Load(alone, RATE, users=100, name="broker")
        load.start()
        try:
            for _ in range(max(1, ROUNDS // 5)):
                time.sleep(2)
                broker.kill()
                broker.start()
                time.sleep(2)
                if worker.ended:
                    worker.start().ready()
            load.finish()
            eventually("every input is acknowledged", lambda: alone.unhandled() == 0 or _restarted(worker), 120)
            report("broker killed", alone, max(1, ROUNDS // 5))
        finally:
            alone.close()


def _restarted(worker: Worker) -> None:
    """What an orchestrator does."""
    if worker.ended:
        worker.start().ready()


def test_a_loaded_worker_ends_within_five_seconds(installation: Installation) -> None:
    """SIGTERM under load: what is in flight is finished and acknowledged, within the time that orchestrators grant."""
    worker = installation.worker("stopped").start().ready()
    load = Load(installation, 3 * RATE, users=200, name="stops")
    load.start()
    time.sleep(3)
    assert worker.stop() <= 5.0, worker.log[-2000:]
    load.finish()
    worker.start().ready()
    report("stop", installation, 1)
    worker.stop()
