"""Worker and trainer on one broker: what people click reaches the rows and the weights that rank them."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
from confluent_kafka import ConsumerGroupTopicPartitions
from confluent_kafka.admin import AdminClient

from liverank.settings import Settings, changed
from online_learning.trainer import checkpoint
from online_learning.trainer.checkpoint import load_checkpoint, newest_checkpoint
from ranker.contracts.bundle_files import MANIFEST
from ranker.contracts.clock import now_ms
from ranker.contracts.ids import hash_id
from ranker.contracts.records import ModelDelta, ModelUpdate
from ranker.registry.bundle import registry_versions
from tests.support import stream
from tests.support.installation import Installation, read_topic
from tests.support.tiny import tiny_bundle
from tests.support.trainer_process import Process, until
from tests.support.waiting import eventually


@pytest.fixture(scope="module")
def installation(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Topics, all of them under a prefix, and a first model."""
    folder = tmp_path_factory.mktemp("trained")
    settings = changed(Settings(),
        brokers=kafka, registry=str(folder / "registry"), app="trained", model="trained", metrics_port=-1,
        session_timeout_s=6.0, trainer_data=folder / "trainer", trainer_metrics_port=-1, provider="cpu",
        topics_prefix="shop.", bundle_s=3.0, gate_least=0, gate_margin=9.0, train_ms=100,
    )  # fmt: skip
    made = Installation(settings, folder)
    made.create_topics()
    tiny_bundle(folder / "registry", stream.SCHEMA, model="trained")
    try:
        made.worker("worker").start()
        yield made
    finally:
        made.close()


def test_clicks_reach_rows_and_weights(installation: Installation, tmp_path: Path) -> None:
    """Versions that learned from the clicks serve, deltas follow each other, an erased user leaves the memory."""
    settings = installation.settings
    ready = changed(settings, ready_file=tmp_path / "ready")
    trainer = Process(ready, tmp_path)
    installation.workers[0].ready()
    trainer.ready()
    clicked = _click_for(installation, 25.0)
    first = registry_versions(settings.registry.address, "trained")[0]

    def models() -> list[str]:
        return list(dict.fromkeys(ranking.model for ranking in installation.rankings()))

    installation.all_handled()
    eventually("versions of the trainer rank", lambda: len([model for model in models() if model != first]) >= 2)
    deltas = deltas_of(installation)
    waits = [_first_after(deltas, ts) - ts for ts in clicked if ts < deltas[-1].learned_until]
    print(f"from a click to the delta that learned from it: p50 {np.median(waits) / 1000:.2f} s of {len(waits)}")
    assert np.median(waits) < 5000
    eventually("a checkpoint remembers the user", lambda: _remembers(settings, b"user-1"), 60)
    installation.send("erasures", "user-1", {"user_id": "user-1"})
    eventually("the erased user is in no checkpoint", lambda: not _remembers(settings, b"user-1"), 60)
    assert trainer.stop() == 0, (tmp_path / "trainer.log").read_text()[-3000:]
    state = newest_checkpoint(settings.trainer.data)
    assert state is not None
    distinct = {message.value() for message in installation.read("examples")}
    assert 0 < state.facts["trained"] <= len(distinct)
    assert {name.rpartition("-")[0] for name in state.facts["offsets"]} == {"shop.examples", "shop.erasures"}
    assert hash_id("user-1") in state.arrays["forgotten.users"].tolist()


@pytest.mark.skipif(sys.platform == "win32", reason="there are no named pipes")
def test_a_registry_that_hangs_does_not_hold_up_the_end(installation: Installation, tmp_path: Path) -> None:
    """Who reads a manifest there waits for ever, as of a share that is away: five seconds are enough all the same, and
    the next trainer goes on from the checkpoint that was written before."""
    folder = tmp_path / "hangs"
    folder.mkdir()
    settings = changed(
        installation.settings, trainer_data=folder / "data", ready_file=folder / "ready", keep_bundles=1, bundle_s=1.0
    )
    trainer = Process(settings, folder)
    trainer.ready()
    home = Path(settings.registry.address) / "trained"
    old, kept = (home / f"20000101T00000000{at}-abcdef" for at in range(2))
    old.mkdir()
    kept.mkdir()
    os.mkfifo(old / MANIFEST)
    (kept / MANIFEST).touch()  # the newest of an hour is not pruned
    try:
        clicks = clicking(installation)
        until(lambda: next(clicks) and " is promoted" in trainer.log)
        assert trainer.stop(5.0) == 0, trainer.log
        assert "a publication that does not end is left behind" in trainer.log
        known = newest_checkpoint(settings.trainer.data)
        assert known is not None and known.facts["trained"] > 0
    finally:
        trainer.kill()
        for made in (old, kept):
            shutil.rmtree(made)


def test_one_trainer_a_model(installation: Installation, tmp_path: Path) -> None:
    """Of two the one that was started last learns on; the other says so and ends, before it sends anything more."""
    first = started(installation, tmp_path / "first")
    second = started(installation, tmp_path / "second")
    try:
        clicks = clicking(installation)
        until(lambda: next(clicks) and first.has_ended)
        assert "another trainer of model 'trained' was started" in first.ended()
        sent = len(deltas_of(installation))
        until(lambda: next(clicks) and len(deltas_of(installation)) > sent)
    finally:
        first.kill()
        assert second.stop() == 0


def test_nothing_changes_a_pinned_version(installation: Installation, tmp_path: Path) -> None:
    """Learning goes on while a version is pinned, and no row of it is changed until something is promoted."""
    trainer = started(installation, tmp_path / "pinned")
    try:
        first = registry_versions(installation.settings.registry.address, "trained")[0]
        announce(installation, first, "pinned")
        until(lambda: f"{first} was made to serve" in trainer.log)
        sent, read = len(deltas_of(installation)), committed(installation)
        clicks = clicking(installation)
        until(lambda: next(clicks) and committed(installation) >= read + 20)
        assert len(deltas_of(installation)) == sent
        announce(installation, first, "promoted")
        until(lambda: next(clicks) and len(deltas_of(installation)) > sent)
        assert deltas_of(installation)[-1].base >= first
    finally:
        assert trainer.stop() == 0


def test_one_that_has_read_nothing_ends_in_order(kafka: str, tmp_path: Path) -> None:
    """As on the first day, before anybody has clicked: there is no offset to commit."""
    settings = changed(
        Settings(), brokers=kafka, registry=str(tmp_path / "registry"), app="idle", model="idle", topics_prefix="idle.",
        trainer_data=tmp_path / "trainer", trainer_metrics_port=-1, ready_file=tmp_path / "ready",
    )  # fmt: skip
    Installation(settings, tmp_path).create_topics()
    tiny_bundle(tmp_path / "registry", stream.SCHEMA, model="idle")
    trainer = Process(settings, tmp_path)
    try:
        trainer.ready()
        assert trainer.stop() == 0, trainer.log
    finally:
        trainer.kill()
    assert "Traceback" not in trainer.log


def started(installation: Installation, folder: Path) -> Process:
    """A trainer with a folder of its own that stands at its offsets."""
    folder.mkdir()
    trainer = Process(changed(installation.settings, trainer_data=folder / "data", ready_file=folder / "ready"), folder)
    trainer.ready()
    return trainer


def clicking(installation: Installation) -> Iterator[bool]:
    """With each step another person is shown a list and clicks on it."""
    for number in itertools.count():
        user, items = f"person-{number}", [f"item-{number % 40 + at}" for at in range(4)]
        listed = {"request_id": "r", "user_id": user, "items": [{"item_id": item} for item in items]}
        installation.send("candidates", user, listed)
        installation.send("clicks", user, {"user_id": user, "item_id": items[2], "request_id": "r"})
        yield True


def announce(installation: Installation, version: str, stage: str) -> None:
    """What `liverank model` writes."""
    update = ModelUpdate(model="trained", version=version, sha256="", stage=stage, ts=now_ms())
    installation.send("model-updates", "trained", msgspec.to_builtins(update))


def deltas_of(installation: Installation) -> list[ModelDelta]:
    """All that were sent."""
    sent = read_topic(installation.settings.broker.addresses, "shop.model-deltas", 1)
    return [msgspec.json.decode(message.value(), type=ModelDelta) for message in sent]


def committed(installation: Installation) -> int:
    """How many records of `examples` the trainer's newest checkpoint knows of."""
    admin = AdminClient({"bootstrap.servers": installation.settings.broker.addresses})
    group = ConsumerGroupTopicPartitions(f"{installation.settings.broker.group}-trainer")
    found = admin.list_consumer_group_offsets([group])[group.group_id].result(30)
    return sum(place.offset for place in found.topic_partitions if place.topic == "shop.examples")


def _click_for(installation: Installation, seconds: float) -> list[int]:
    """Lists and clicks at about 20 events/s; when each click happened."""
    rng, end, clicked = random.Random(0), time.monotonic() + seconds, []
    producer, number = installation.producer(), 0
    while time.monotonic() < end:
        number += 1
        user = f"user-{rng.randrange(20)}"
        items = [f"item-{item}" for item in rng.sample(range(50), 6)]
        made = {"request_id": f"r{number}", "user_id": user, "items": [{"item_id": item} for item in items]}
        producer.produce("shop.candidates", msgspec.json.encode(made), user)
        producer.flush(10)
        time.sleep(0.05)
        clicked.append(now_ms())
        click = {"user_id": user, "item_id": rng.choice(items), "event_id": f"c{number}", "ts": clicked[-1]}
        producer.produce("shop.clicks", msgspec.json.encode(click), user)
        producer.flush(10)
        time.sleep(0.05)
    return clicked


def _first_after(deltas: list[ModelDelta], ts: int) -> int:
    """When the first delta was made that had learned what happened then."""
    return next(delta.sequence for delta in deltas if delta.learned_until >= ts)


def _remembers(settings: Settings, user: bytes) -> bool:
    """Whether any checkpoint on disk holds an example of the user."""
    found = list(settings.trainer.data.glob("checkpoint-*"))
    try:
        replays = [load_checkpoint(path).replay for path in found]
    except checkpoint.CheckpointError:  # pruned under our eyes
        return True
    return any(entry.user_id == user.decode() for replay in replays for entry in replay)
