"""The schema of a running system is changed by the path of docs/operations.md, while people click; on Apache Kafka."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
import numpy as np
import pytest

from liverank.faults.checker.state import row_differences
from liverank.operate.models import promote, read_control
from liverank.settings import Settings, changed, environment_of
from ranker.contracts.records import Example, Ranking
from ranker.contracts.schema import FeatureSchema
from ranker.registry.bundle import read_remote_manifest
from ranker.starter.bundle import publish_starter
from ranker.state.row import EVENT
from tests.support.installation import Installation, Worker
from tests.support.trainer_process import Process
from tests.support.waiting import eventually

USERS, ITEMS, LENGTH = 8, 30, 8  # of fewer than ten users the gate asks for no more than its margin
SLOW_S = 300.0  # for what takes seconds on a machine that has nothing else to do
NEW_SCHEMA = """
[schema]
candidate_features = [{ name = "price", normalise = ["list-log"] }]
context = [{ name = "device", values = ["phone", "desk"] }]
actions = [
    { name = "view" },
    { name = "click", positive = true },
    { name = "cart", positive = true, weight = 2.0 },
]
"""


class People(threading.Thread):
    """Look at lists and do things, some twenty inputs a second; once `new` is set, by the new schema."""

    def __init__(self, installation: Installation) -> None:
        super().__init__(daemon=True)
        self._producer, self._rng = installation.producer(), random.Random(0)
        self.done, self.new = threading.Event(), threading.Event()
        self.acknowledged: dict[str, dict[str, int]] = {}  # user -> topic -> the newest offset
        self.count = 0

    def run(self) -> None:
        """One input after another."""
        listed: dict[str, list[str]] = {}
        while not self.done.wait(0.05):
            user = f"user-{self._rng.randrange(USERS)}"
            if user not in listed or self._rng.random() < 0.2:
                listed[user] = [f"item-{at}" for at in self._rng.sample(range(ITEMS), LENGTH)]
                self._send("candidates", user, self._list(listed[user]))
                continue
            event = {"item_id": self._rng.choice(listed[user])}
            topics = ["views", "clicks", *(["interactions"] * 2 if self.new.is_set() else [])]
            topic = self._rng.choice(topics)
            self._send(topic, user, event | ({"action": "cart"} if topic == "interactions" else {}))

    def finish(self) -> None:
        """Stop; the broker has everything then."""
        self.done.set()
        self.join(30)
        assert self._producer.flush(60) == 0
        assert sum(map(len, self.acknowledged.values()))

    def _list(self, items: list[str]) -> dict:
        made: dict = {"request_id": f"r{self.count}", "items": [{"item_id": item} for item in items]}
        if self.new.is_set():
            made["context"] = {"device": self._rng.choice(("phone", "desk"))}
            for item in made["items"]:
                item["features"] = {"price": self._rng.uniform(1, 90)}
        return made

    def _send(self, topic: str, user: str, record: dict) -> None:
        def arrived(error: object, message: object) -> None:
            assert error is None, error
            self.acknowledged.setdefault(user, {})[topic] = message.offset()  # type: ignore[attr-defined]

        self._producer.produce(topic, json.dumps({"user_id": user, **record}), user, on_delivery=arrived)
        self._producer.poll(0)
        self.count += 1


@pytest.fixture
def installation(kafka: str, tmp_path: Path) -> Iterator[Installation]:
    """Two workers that serve a starter of the default schema, and its registry."""
    settings = changed(Settings(),
        brokers=kafka, registry=str(tmp_path / "registry"), app="changing", model="changing", metrics_port=-1,
        session_timeout_s=6.0, trainer_data=tmp_path / "trainer", trainer_metrics_port=-1, provider="cpu",
        bundle_s=3.0, gate_least=0, gate_margin=9.0, train_ms=100, ready_file=tmp_path / "trainer-ready",
        attribution_ms=2000,
    )  # fmt: skip
    made = Installation(settings, tmp_path)
    made.create_topics()
    publish_starter(FeatureSchema(), settings.registry.address, "changing")
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def people(installation: Installation) -> Iterator[People]:
    """Who have not begun."""
    made = People(installation)
    yield made
    made.done.set()


@pytest.fixture
def trainers(installation: Installation) -> Iterator[list[Process]]:
    """Those that were started."""
    made: list[Process] = []
    yield made
    for one in made:
        one.kill()


def start_trainer(installation: Installation, trainers: list[Process]) -> Process:
    """One that has read what there was before it."""
    trainers.append(Process(installation.settings, installation.folder))
    eventually("the trainer is ready", installation.settings.trainer.ready_file.exists, SLOW_S)
    return trainers[-1]


def train(installation: Installation, config: Path) -> tuple[str, str]:
    """`liverank train --from-kafka`; the version that it made, and what it said."""
    told = installation.folder / "trained.json"
    argv = [sys.executable, "-m", "liverank", "train", "--from-kafka", "--since", "1h", "--warm-from", "serving"]
    argv += ["--epochs", "1", "--config", str(config), "--json", str(told)]
    environment = os.environ | environment_of(installation.settings)
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(told.read_text())
    assert report["left_out"] == {}
    return report["version"], done.stderr


def serving(installation: Installation) -> str | None:
    """What the control topic says serves."""
    return read_control(installation.settings).stages.serving


def schema_of(installation: Installation, version: str) -> FeatureSchema:
    """Of a version of the registry."""
    return read_remote_manifest(installation.settings.registry, version)[0].schema


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_an_action_a_feature_and_a_field_are_added_under_events(
    installation: Installation, people: People, trainers: list[Process]
) -> None:
    """Nothing is lost and nothing dead-lettered: each acknowledged input is in its user's row and last ranking, the
    rows are the fold of all inputs by the new schema, and what is new ranks, is learned from, and serves.
    """
    config = installation.folder / "liverank.toml"
    config.write_text(NEW_SCHEMA)
    workers = [installation.worker(name).start() for name in ("one", "two")]
    for worker in workers:
        worker.ready(SLOW_S)
    trainer = start_trainer(installation, trainers)
    people.start()
    eventually("the trainer has made a version", lambda: serving(installation) is not None, SLOW_S)
    new, said = train(installation, config)
    assert "actions: cart" in said
    assert schema_of(installation, new).context[0].name == "device"
    promote(installation.settings, new, "a cart")
    assert "is of another kind than what was learned on: the action 'cart' is new" in trainer.ended()
    trainer = start_trainer(installation, trainers)
    for worker in workers:
        eventually("it waits for its restart", lambda worker=worker: "has to be started again" in worker.log, SLOW_S)
    # The trainer goes on with examples of workers that know nothing of the new schema yet.
    eventually(
        "the trainer has made versions of the new schema", lambda: serving(installation) not in (None, new), SLOW_S
    )
    for worker in workers:
        restart(worker, config)
        sent = people.count  # old and new side by side, under events
        eventually("people have gone on meanwhile", lambda sent=sent: people.count >= sent + 20)
    people.new.set()
    eventually("carts are learned from", lambda: len(carts(installation)) >= 20, SLOW_S)
    since = serving(installation)
    eventually("and a version since ranks", lambda: serving(installation) != since, SLOW_S)
    people.finish()
    installation.all_handled(SLOW_S)
    assert trainer.stop() == 0

    assert installation.dead_letters() == []
    last = last_rankings(installation)
    lost = {
        (user, topic)
        for user, topics in people.acknowledged.items()
        for topic, offset in topics.items()
        if last[user].applied.get(topic, -1) < offset
    }
    assert lost == set()
    assert {name for ranking in last.values() for name in ranking.items[0].probabilities} == {"click", "cart"}
    rows, folded = installation.stored_rows(), installation.folded_rows()
    assert {key: found for key in folded if (found := row_differences(rows[key], folded[key]))} == {}
    assert any((np.frombuffer(row.events, EVENT)["action"] == 2).any() for row in rows.values())
    assert any(row.candidates is not None and "price" in row.candidates.columns for row in rows.values())
    for worker in workers:
        assert "Traceback" not in worker.log
        assert "does not serve" not in worker.log


def restart(worker: Worker, config: Path) -> None:
    """One that was told the new schema serves the new version, and has nothing to tell."""
    with suppress(AssertionError):  # a slow machine may be late with its last confirmations: what is open comes again
        worker.stop()
    worker.arguments = ("--config", str(config))
    told = len(worker.log)
    worker.start().ready(SLOW_S)
    assert "[schema] is not that of" not in worker.log[told:]


def carts(installation: Installation) -> list[Example]:
    """Examples of the new action."""
    made = (msgspec.json.decode(message.value(), type=Example) for message in installation.read("examples"))
    return [one for one in made if one.outcome is not None and one.outcome.action == "cart"]


def last_rankings(installation: Installation) -> dict[str, Ranking]:
    """The highest revision of each user."""
    last: dict[str, Ranking] = {}
    for ranking in installation.rankings():
        if ranking.user_id not in last or ranking.revision >= last[ranking.user_id].revision:
            last[ranking.user_id] = ranking
    return last
