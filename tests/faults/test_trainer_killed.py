"""A real trainer on Apache Kafka, killed with -9 again and again: each example is learned from once."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from liverank.local.broker import Broker
from liverank.settings import Settings, changed
from online_learning.trainer.checkpoint import newest_checkpoint
from ranker.contracts.ids import hash_id
from ranker.contracts.records import Example, ModelDelta, ModelUpdate
from ranker.registry.bundle import fetch_bundle, read_manifest, registry_versions
from streams.kafka.admin import create_topics
from tests.support import stream
from tests.support.crashing import STEPS
from tests.support.installation import read_topic
from tests.support.tiny import tiny_bundle
from tests.support.trainer_process import Lives, Process, until

ROUNDS = int(os.environ.get("LIVERANK_KILL_ROUNDS", "3"))


@pytest.fixture(scope="module")
def settings(own_kafka: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Topics on a broker, and a first model in a registry."""
    folder = tmp_path_factory.mktemp("trainer")
    made = changed(Settings(),
        brokers=own_kafka.address, registry=str(folder / "registry"), trainer_data=folder / "trainer", app="killed",
        ready_file=folder / "ready", trainer_metrics_port=-1, provider="cpu", train_batch=16, train_ms=50,
        delta_ms=100, bundle_s=0.4, gate_least=0, gate_margin=9.0, replay=100,
    )  # fmt: skip
    create_topics(made.broker)
    tiny_bundle(folder / "registry", stream.SCHEMA)
    yield made


def test_each_example_is_learned_once_through_kills(settings: Settings, tmp_path: Path) -> None:
    """After any number of kills the checkpoint has learned from exactly the topic's distinct examples.

    Examples arrive all the while, some twice, on four partitions; the process dies at random moments, while it starts,
    learns, writes its checkpoint or publishes.
    """
    rng = random.Random(0)
    examples = stream.examples(400)
    waiting = [examples[start : start + 60] for start in range(0, len(examples), 60)]
    survived: list[int] = []
    for round_ in range(ROUNDS):
        process = Process(settings, tmp_path)
        if round_ % 3:
            process.ready()
        if waiting:
            _send(settings, [*waiting.pop(0), *rng.sample(examples, 10)])
        time.sleep(rng.uniform(0.0, 2.5))
        process.kill()
        kept = newest_checkpoint(settings.trainer.data)
        survived.append(kept.facts["trained"] if kept is not None else 0)
    _send(settings, [example for rest in waiting for example in rest])
    process = Process(settings, tmp_path)
    process.ready()
    ends = _ends(settings)
    until(lambda: _offsets(settings) == ends)
    assert process.stop() == 0, (tmp_path / "trainer.log").read_text()[-3000:]
    state = newest_checkpoint(settings.trainer.data)
    assert state is not None
    print(f"examples learned from when killed: {survived}, in the end {state.facts['trained']}")
    assert survived == sorted(survived)
    assert any(0 < count < len(examples) for count in survived), f"none died in the middle: {survived}"
    assert state.facts["offsets"] == ends
    assert state.facts["trained"] == len(examples)
    assert set(state.arrays["known"].tolist()) == {hash_id(example.example_id) for example in examples}


def test_what_is_announced_is_in_the_registry(settings: Settings) -> None:
    """After the kills of the test before: every announced version was whole, and the newest one still is there."""
    updates = [msgspec.json.decode(value, type=ModelUpdate) for value in _read(settings, "model-updates", 1)]
    assert updates, "at least one bundle was announced"
    last = updates[-1]
    folder = fetch_bundle(settings.registry, last.version, settings.trainer.data / "seen", last.sha256)
    assert read_manifest(folder).offsets


def test_deltas_name_versions_that_were_announced(settings: Settings) -> None:
    """Each delta is for a version that serves, and their sequence rises."""
    deltas = [msgspec.json.decode(value, type=ModelDelta) for value in _read(settings, "model-deltas", 1)]
    assert deltas
    announced = set(registry_versions(settings.registry.address, "default"))
    assert deltas[-1].base in announced
    sequences = [delta.sequence for delta in deltas]
    assert sequences == sorted(sequences)


def test_each_example_is_learned_once_whichever_step_dies(settings: Settings, tmp_path: Path) -> None:
    """Killed right before or after each of its steps in turn, with examples coming all the while: after each death the
    checkpoint has learned from exactly the examples before its offsets, and what is announced is whole."""
    stepped = changed(
        settings, model="stepped", registry=str(tmp_path / "registry"), trainer_data=tmp_path / "trainer", delta_ms=20,
        keep_bundles=1,
    )  # fmt: skip
    tiny_bundle(tmp_path / "registry", stream.SCHEMA, model="stepped")
    examples = stream.examples(30 * len(STEPS), seed=9)[: 30 * len(STEPS)]
    process = Lives(stepped, tmp_path, [*STEPS, "none"])
    try:
        for number, step in enumerate(STEPS):
            _send(settings, [*examples[30 * number :][:30], *examples[: 5 * number : 9]])
            assert process.live() == (step, "killed"), (tmp_path / "lives.log").read_text()[-3000:]
            _check_checkpoint(stepped, step)
            _check_announced(stepped, step)
        process.begin()
        ends = _ends(settings)
        until(lambda: _offsets(stepped) == ends)
    finally:
        process.close()
    assert _check_checkpoint(stepped, "the end") >= len(examples)


def test_a_registry_that_does_not_answer_ends_it_with_one_line(settings: Settings, tmp_path: Path) -> None:
    """The registry's address is on the log, without the user and the password that it holds."""
    away = changed(settings, model="away", registry="ftp://someone:s3cret-word@127.0.0.1:1/models")
    log = Process(away, tmp_path).ended()
    assert "the trainer ends: the registry ftp://***@127.0.0.1:1/models cannot be read" in log
    assert "s3cret-word" not in log
    assert "Traceback" not in log


def test_a_broker_killed_under_it_costs_nothing(settings: Settings, own_kafka: Broker, tmp_path: Path) -> None:
    """It comes back on the same port: the trainer goes on, or ends with one line and is started again; every example is
    learned once, and the log holds no traceback."""
    again = changed(
        settings, model="again", registry=str(tmp_path / "registry"), trainer_data=tmp_path / "trainer", delta_ms=50,
        ready_file=tmp_path / "ready",
    )  # fmt: skip
    tiny_bundle(tmp_path / "registry", stream.SCHEMA, model="again")
    examples = stream.examples(100, seed=3)
    process = Process(again, tmp_path)
    process.ready()
    _send(settings, examples[:60])
    until(lambda: (_trained(again) or 0) > 0)
    own_kafka.kill()
    own_kafka.start()
    _send(settings, examples[60:])
    ends = _ends(settings)

    def through() -> bool:
        nonlocal process
        process = process.again()
        return _offsets(again) == ends

    until(through)
    assert process.stop() == 0
    assert _check_checkpoint(again, "the end") >= len(examples)
    assert "Traceback" not in (tmp_path / "trainer.log").read_text()


def test_it_ends_as_asked_while_its_broker_is_gone(settings: Settings, own_kafka: Broker, tmp_path: Path) -> None:
    """SIGTERM with nobody to talk to: a last checkpoint, and an end within what orchestrators grant; another trainer
    goes on from there once the broker is back."""
    gone = changed(
        settings, model="gone", registry=str(tmp_path / "registry"), trainer_data=tmp_path / "trainer", delta_ms=50,
        ready_file=tmp_path / "ready",
    )  # fmt: skip
    tiny_bundle(tmp_path / "registry", stream.SCHEMA, model="gone")
    process = Process(gone, tmp_path)
    process.ready()
    _send(gone, stream.examples(60, seed=5))
    until(lambda: (_trained(gone) or 0) > 0)
    own_kafka.kill()
    until(lambda: "127.0.0.1" in (tmp_path / "trainer.log").read_text())  # it has seen that the broker is gone
    status = process.stop(deadline_s=15.0)
    own_kafka.start()
    assert status == 0, (tmp_path / "trainer.log").read_text()[-3000:]
    kept = _check_checkpoint(gone, "the end")
    process = Process(gone, tmp_path)
    process.ready()
    ends = _ends(gone)
    until(lambda: _offsets(gone) == ends)
    assert process.stop() == 0
    assert _check_checkpoint(gone, "afterwards") >= kept > 0
    assert "Traceback" not in (tmp_path / "trainer.log").read_text()


def _trained(settings: Settings) -> int | None:
    state = newest_checkpoint(settings.trainer.data)
    return None if state is None else int(state.facts["trained"])


def _check_checkpoint(settings: Settings, step: str) -> int:
    """The newest checkpoint has learned from the distinct examples before its offsets, each once; how many."""
    state = newest_checkpoint(settings.trainer.data)
    if state is None:
        return 0
    offsets = state.facts["offsets"]
    before = {
        hash_id(msgspec.json.decode(message.value(), type=Example).example_id)
        for message in read_topic(settings.broker.addresses, "examples", settings.broker.partitions)
        if message.offset() < offsets.get(f"examples-{message.partition()}", 0)
    }
    assert set(state.arrays["known"].tolist()) == before, step
    assert state.facts["trained"] == len(before), step
    return len(before)


def _check_announced(settings: Settings, step: str) -> None:
    """What was announced last can be fetched and is what was announced."""
    updates = [msgspec.json.decode(value, type=ModelUpdate) for value in _read(settings, "model-updates", 1)]
    ours = [update for update in updates if update.model == settings.registry.model]
    if ours:
        into = settings.trainer.data / "seen"
        fetch_bundle(settings.registry, ours[-1].version, into, ours[-1].sha256)


def _send(settings: Settings, examples: list[Example]) -> None:
    producer = Producer({"bootstrap.servers": settings.broker.addresses, "linger.ms": 5})
    for example in examples:
        producer.produce("examples", msgspec.json.encode(example), key=example.user_id.encode())
    assert producer.flush(30) == 0


def _ends(settings: Settings) -> dict[str, int]:
    consumer = Consumer({"bootstrap.servers": settings.broker.addresses, "group.id": "look"})
    found = {
        f"examples-{number}": consumer.get_watermark_offsets(TopicPartition("examples", number), 30)[1]
        for number in range(settings.broker.partitions)
    }
    consumer.close()
    return {name: end for name, end in found.items() if end}


def _offsets(settings: Settings) -> dict[str, int] | None:
    found = sorted(settings.trainer.data.glob("checkpoint-*/state.json"))
    try:
        return json.loads(found[-1].read_bytes())["facts"]["offsets"] if found else None
    except FileNotFoundError:  # pruned under our eyes
        return None


def _read(settings: Settings, topic: str, partitions: int) -> list[bytes]:
    return [message.value() for message in read_topic(settings.broker.addresses, topic, partitions)]
