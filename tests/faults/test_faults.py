"""Faults under load: no state, no event, no ranking and no example is lost, and nothing is learned twice.

`liverank bench faults` is what tests; this is its form for CI. The environment's LIVERANK_FAULT_ROUNDS makes it as long
as you like.
"""

from __future__ import annotations

import os
import time

import pytest
from rich.console import Console

from liverank.faults.load.sender import Sender
from liverank.faults.load.workload import Workload
from liverank.faults.run import FaultOptions, run_faults
from tests.support.installation import Installation, Worker, assert_state_and_rankings
from tests.support.waiting import eventually

ROUNDS = int(os.environ.get("LIVERANK_FAULT_ROUNDS", "0"))
#: What a minute or two have room for; all kinds where there is more time.
SHORT = ("worker-killed", "worker-stopped", "worker-cut-off", "worker-joins", "broker-killed", "trainer-killed")


@pytest.mark.timeout(60 * (ROUNDS or 10))
def test_faults_break_no_promise() -> None:
    """Kills, a worker that stands still or is cut off, one that joins and leaves, a broker killed: rows, rankings, dead
    letters, examples and what is learned are as if nothing had happened."""
    options = (
        FaultOptions(rounds=ROUNDS, seed=7)
        if ROUNDS
        else FaultOptions(rounds=len(SHORT), seed=7, kinds=SHORT, stretch=len(SHORT))
    )
    report = run_faults(options, Console(stderr=True))
    assert not report["violations"], "\n".join(f"{one['kind']}: {one['what']}" for one in report["violations"])
    assert sum(report["faults"].values()) == options.rounds
    assert report["compared_by_score"] > 0
    assert report["rankings"] > 0
    assert report["dead_letters"] > 0
    assert report["examples"] > 0
    print(f"\n{report}")


def test_a_loaded_worker_ends_within_five_seconds(installation: Installation) -> None:
    """SIGTERM under load: what is in flight is finished and acknowledged, within the time that orchestrators grant."""
    worker = installation.worker("stopped").start().ready()
    load = Sender(installation.settings.broker, Workload("stops", seed=0, users=200, items=False), 900.0)
    load.open()
    load.start()
    time.sleep(3)
    assert worker.stop() <= 5.0, worker.log[-2000:]
    load.finish()
    worker.start().ready()
    installation.all_handled()
    assert_state_and_rankings(installation)
    worker.stop()


def test_a_worker_that_stood_still_before_its_first_checkpoint_overwrites_nothing(installation: Installation) -> None:
    """Then the group has no offset of it, and another worker is ahead of it from the first record on."""
    still = installation.worker("still", checkpoint_ms=3000).start().ready()
    load = Sender(installation.settings.broker, Workload("first", seed=0, items=False), 300.0)
    load.open()
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
    installation.all_handled()
    assert_state_and_rankings(installation)
    for worker in (still, other):
        if not worker.ended:
            worker.stop()


def test_what_a_worker_ranks_that_has_lost_its_users_unawares_does_not_hold(installation: Installation) -> None:
    """It wakes with lists of new users in its socket, and ranks them before it hears that they are another's by now: of
    those rankings none comes after the other's, which know of more."""
    still = installation.worker("unaware", checkpoint_ms=3000).start().ready()
    still.pause()
    users = [f"unaware-{number}" for number in range(100)]
    for user in users:
        listed = {"user_id": user, "request_id": "r", "items": [{"item_id": "item-1"}, {"item_id": "item-2"}]}
        installation.send("candidates", user, listed)
    other = installation.worker("aware").start().ready()
    for user in users:
        installation.send("clicks", user, {"user_id": user, "item_id": "item-2"})
    installation.all_handled()
    still.resume()
    eventually("it has heard", lambda: still.ended or "Heartbeat failed" in still.log or "went on without" in still.log)
    installation.all_handled()
    newest = {}
    for ranking in sorted(installation.rankings(), key=lambda one: (one.epoch, one.revision)):
        newest[ranking.user_id] = ranking
    assert {user: set(newest[user].applied) for user in users} == {user: {"candidates", "clicks"} for user in users}
    for worker in (still, other):
        if not worker.ended:
            worker.stop()


def assert_gave_up(worker: Worker) -> None:
    """It ended by itself: its transaction had lasted for longer than it may."""
    reasons = ("not delivered", "a checkpoint was not taken", "takes nothing any more")
    assert any(reason in worker.log for reason in reasons), worker.log[-2000:]
