"""What strangers send costs itself alone: a worker and a trainer go on, and the dead letters are those deserved."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
import pytest
from confluent_kafka import Message

from liverank.faults.load import poison
from liverank.faults.load.inputs import Planned
from liverank.faults.load.sender import input_producer, produce, send_transactions
from liverank.settings import Settings, changed
from online_learning.trainer.checkpoint import newest_checkpoint
from ranker.contracts.clock import now_ms
from ranker.contracts.records import Example
from ranker.state.codec import decode_row
from streams.kafka.connection import partition_of
from tests.support.installation import Installation, Worker
from tests.support.tiny import ENCODER, tiny_bundle
from tests.support.trainer_process import Process
from tests.support.waiting import eventually

PARTITION = 1
SCHEMA = msgspec.structs.replace(poison.PRICED, window=8)


@pytest.fixture(scope="module")
def installation(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Topics and a first model; a stored row is none."""
    folder = tmp_path_factory.mktemp("poisoned")
    settings = changed(
        Settings(), brokers=kafka, registry=str(folder / "registry"), app="poisoned", model="poisoned",
        metrics_port=-1, session_timeout_s=6.0, trainer_data=folder / "trainer", trainer_metrics_port=-1,
        provider="cpu", bundle_s=3600.0, train_ms=100, ready_file=folder / "trainer-ready",
    )  # fmt: skip
    made = Installation(settings, folder)
    made.create_topics()
    tiny_bundle(folder / "registry", SCHEMA, model="poisoned")
    try:
        yield made
    finally:
        made.close()


def users(installation: Installation, count: int) -> list[str]:
    """Names whose inputs lie in one partition."""
    partitions = installation.settings.broker.partitions
    names = (f"user-{number}" for number in range(1000))
    return [name for name in names if partition_of(name.encode(), partitions) == PARTITION][:count]


def show(installation: Installation, user: str, request_id: str) -> None:
    """A list for a user."""
    items = [{"item_id": item, "features": {"price": 3.0}} for item in "abc"]
    installation.send("candidates", user, {"user_id": user, "request_id": request_id, "items": items})


def click(installation: Installation, user: str, event_id: str) -> None:
    """A click of a user, and the ranking that comes of it."""
    installation.send("clicks", user, {"user_id": user, "item_id": "b", "event_id": event_id})
    eventually(f"{event_id} is ranked", lambda: any(one.cause.event_id == event_id for one in installation.rankings()))


def test_nothing_that_is_sent_ends_a_process(installation: Installation) -> None:
    """Every kind of poison into every topic; other users of the partition are ranked, and learned from."""
    stranger, other, damaged = users(installation, 3)
    changelog = installation.settings.broker.changelog
    installation.send(changelog, damaged, b"\x93garbage", partition=PARTITION)
    worker = installation.worker("worker").start()
    trainer = Process(installation.settings, installation.folder)
    try:
        poison_all(installation, worker, trainer, (stranger, other, damaged))
    finally:
        trainer.kill()


def ranked(installation: Installation, request_id: str) -> None:
    """Wait for a ranking of a list."""
    eventually(f"{request_id} is ranked", lambda: any(one.request_id == request_id for one in installation.rankings()))


def poison_all(installation: Installation, worker: Worker, trainer: Process, named: tuple[str, str, str]) -> None:
    """Send everything, and see what comes of it."""
    stranger, other, damaged = named
    worker.ready()
    trainer.ready()
    for user in (stranger, other, damaged):
        show(installation, user, "first")
    click(installation, other, "before")
    click(installation, damaged, "of the damaged row")

    deserved = send_refused(installation, stranger)
    send(installation, poison.compressed(stranger))
    for one in poison.taken(stranger):
        send(installation, [one])
        if one.topic == "candidates":  # of lists that wait together those that the next ones push out are not ranked
            ranked(installation, json.loads(one.value or b"")["request_id"])
    click(installation, stranger, "after extremes")
    click(installation, other, "after poison")

    kept = send_control(installation)
    send(installation, poison.vectors(ENCODER))
    bad = send_examples(installation, other)
    send_transactions(installation.settings.broker, stranger)
    show(installation, other, "last")
    click(installation, other, "at last")
    installation.all_handled()

    assert not worker.ended, worker.log[-3000:]
    assert "is set aside" in worker.log
    assert kept.exists()
    letters = {(one.topic, one.partition, one.offset): one.reason for one in installation.dead_letters()}
    assert letters == deserved
    shown = {one.request_id for one in installation.rankings()}
    assert {"wide", "odd", "large", "committed"} <= shown
    assert "aborted" not in shown
    row = installation.stored_rows()[PARTITION, stranger.encode()]
    assert row.candidates is not None
    assert row.candidates.request_id == "committed"
    assert trainer.stop() == 0, (installation.folder / "trainer.log").read_text()[-3000:]
    state = newest_checkpoint(installation.settings.trainer.data)
    assert state is not None
    good = {example.example_id for example in examples(installation)} - bad
    assert {f"{other}:last:at last:b:click", f"{stranger}:large:after extremes:b:click"} & good
    assert state.facts["trained"] == len(good)


def send(installation: Installation, planned: Iterable[Planned]) -> list[tuple[Planned, tuple[str, int, int]]]:
    """Send records; each with its place."""
    placed: list[tuple[Planned, tuple[str, int, int]]] = []
    broker, producers = installation.settings.broker, {}
    for one in planned:
        if one.codec not in producers:
            producers[one.codec] = input_producer(broker, one.codec)

        def delivered(error: object, message: Message, one: Planned = one) -> None:
            assert error is None
            placed.append((one, (message.topic(), message.partition(), message.offset())))

        produce(producers[one.codec], broker, one, delivered)
    for producer in producers.values():
        assert producer.flush(30) == 0
    return placed


def send_refused(installation: Installation, user: str) -> dict[tuple[str, int, int], str]:
    """What must become a dead letter: place -> reason."""
    sent = send(installation, poison.to_be_refused(user, now_ms()))
    assert len(sent) > 15
    return {place: one.reason or "" for one, place in sent}


def send_control(installation: Installation) -> Path:
    """Names that lead out of the folders; what lies there."""
    data = installation.folder / "worker" / "data"
    data.mkdir(parents=True, exist_ok=True)
    kept = data / "poison" / "kept"
    kept.parent.mkdir()
    kept.write_text("not ours")
    send(installation, poison.control("poisoned", str(kept.parent), now_ms()))
    return kept


def examples(installation: Installation) -> list[Example]:
    """Those that decode."""
    found = []
    for message in installation.read("examples"):
        try:
            found.append(msgspec.json.decode(message.value() or b"", type=Example))
        except (msgspec.DecodeError, RecursionError):
            continue
    return found


def send_examples(installation: Installation, user: str) -> set[str]:
    """Examples that cannot be learned from, in the midst of good ones; their ids."""
    eventually("there is an example", lambda: any(one.outcome for one in examples(installation)))
    good = next(one for one in examples(installation) if one.outcome and decode_row(one.state).candidates)
    spoiled = poison.spoiled(good, now_ms())
    for one in spoiled:
        installation.send("examples", user, msgspec.json.encode(one))
    for body in poison.undecodable():
        installation.send("examples", user, body)
    return {one.example_id for one in spoiled}
