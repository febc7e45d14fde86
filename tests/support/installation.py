"""Real workers on real brokers: what the integration and fault tests are made of."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaError,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient

from liverank.settings import Settings, changed, environment_of
from ranker.contracts.clock import now_ms
from ranker.contracts.decoding import InputDecoder
from ranker.contracts.errors import InvalidRecord
from ranker.contracts.inputs import Position
from ranker.contracts.records import DeadLetter, Item, Ranking
from ranker.contracts.topics import ITEMS, USER_INPUTS
from ranker.items.catalog import Catalog
from ranker.registry.bundle import fetch_bundle, newest_version, read_manifest
from ranker.serving.model import ServingModel, load_model
from ranker.state.codec import assembled, decode_list, decode_row, list_prefix
from ranker.state.fold import apply_input
from ranker.state.row import EMPTY, UserRow
from streams.kafka.admin import create_topics
from streams.kafka.topic_ids import TopicIds
from tests.support.waiting import eventually

REPOSITORY = Path(__file__).parents[2]
Key = tuple[int, bytes]


@dataclass
class Worker:
    """A `liverank worker` process with a data folder of its own."""

    settings: Settings
    folder: Path
    process: subprocess.Popen[bytes] | None = None
    arguments: tuple[str, ...] = ()  # of the command
    code: Path = REPOSITORY  # which release it runs

    @property
    def log(self) -> str:
        """What it wrote, over all its starts."""
        path = self.folder / "log"
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    @property
    def ended(self) -> bool:
        """Whether it ended by itself."""
        return self.process is not None and self.process.poll() is not None

    def start(self) -> Worker:
        """Start it; `ready` waits until it serves."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "ready").unlink(missing_ok=True)
        own = {"data": self.folder / "data", "ready_file": self.folder / "ready"}
        given = environment_of(changed(self.settings, **own))
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "liverank", "worker", *self.arguments],
                cwd=self.code,
                env=os.environ | given,
                stdout=log,
                stderr=log,
            )
        return self

    def ready(self, deadline_s: float = 60.0) -> Worker:
        """Wait until it serves."""

        def serves() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, f"the worker ended:\n{self.log[-4000:]}"
            return (self.folder / "ready").exists()

        eventually(f"the worker is ready\n{self.log[-4000:]}", serves, deadline_s)
        return self

    def kill(self) -> None:
        """End it as a fault would."""
        self._signal(signal.SIGKILL)

    def stop(self) -> float:
        """Ask it to end; returns how many seconds that took."""
        started = time.monotonic()
        assert self._signal(signal.SIGTERM) == 0, f"it ended with an error:\n{self.log[-4000:]}"
        return time.monotonic() - started

    def pause(self) -> None:
        """Let it stand still, as a machine that swaps or migrates does."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> int:
        assert self.process is not None
        process, self.process = self.process, None
        process.send_signal(number)
        try:
            return process.wait(30)
        finally:
            process.kill()


@dataclass
class Installation:
    """A broker with the topics of an installation, a registry with a model, and its workers."""

    settings: Settings
    folder: Path
    workers: list[Worker] = field(default_factory=list)

    def create_topics(self) -> None:
        """Create what is missing."""
        create_topics(self.settings.broker)

    def worker(self, name: str, arguments: tuple[str, ...] = (), code: Path = REPOSITORY, **changes: Any) -> Worker:
        """A worker that is not started yet."""
        worker = Worker(changed(self.settings, **changes), self.folder / name, arguments=arguments, code=code)
        self.workers.append(worker)
        return worker

    def close(self) -> None:
        """End what still runs."""
        for worker in self.workers:
            if worker.process is not None:
                worker.kill()

    def producer(self) -> Producer:
        """A producer that spreads keys as Java's does."""
        return Producer(
            {
                "bootstrap.servers": self.settings.broker.addresses,
                "partitioner": "murmur2_random",
                "linger.ms": 2,
                "message.max.bytes": 8 << 20,
            }
        )

    def send(self, topic: str, key: str | bytes | None, value: Any, **more: Any) -> tuple[int, int]:
        """Send one record, as JSON where it is not bytes already, to a topic by our name; its partition and offset."""
        placed: list[Message] = []
        body = value if value is None or isinstance(value, bytes) else json.dumps(value).encode()
        producer = self.producer()
        producer.produce(
            self.settings.topics.called(topic),
            body,
            key,
            on_delivery=lambda error, message: placed.append(message),
            **more,
        )
        assert producer.flush(30) == 0
        assert placed[0].error() is None, placed[0].error()
        return placed[0].partition(), placed[0].offset()

    def read(self, topic: str) -> Iterator[Message]:
        """Everything that the topic holds now."""
        called = self.settings.topics.called(topic)
        yield from read_topic(self.settings.broker.addresses, called, self.settings.broker.partitions)

    def rankings(self) -> list[Ranking]:
        """All rankings, in order by user."""
        return [msgspec.json.decode(message.value(), type=Ranking) for message in self.read("rankings")]

    def dead_letters(self) -> list[DeadLetter]:
        """All dead letters."""
        return [msgspec.json.decode(message.value(), type=DeadLetter) for message in self.read("dead-letters")]

    def unhandled(self) -> int:
        """Input records that no worker has acknowledged."""
        admin = AdminClient({"bootstrap.servers": self.settings.broker.addresses})
        group = self.settings.broker.group
        listed = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])[group].result(30)
        committed = {(tp.topic, tp.partition): max(tp.offset, 0) for tp in listed.topic_partitions}
        consumer = Consumer({"bootstrap.servers": self.settings.broker.addresses, "group.id": "reader"})
        try:
            return sum(
                max(
                    0,
                    consumer.get_watermark_offsets(TopicPartition(topic, partition), 10)[1]
                    - committed.get((topic, partition), 0),
                )
                for topic in map(self.settings.topics.called, (*USER_INPUTS, ITEMS))
                for partition in range(self.settings.broker.partitions)
            )
        finally:
            consumer.close()

    def all_handled(self, deadline_s: float = 120.0) -> None:
        """Wait until every input is acknowledged."""
        eventually("every input is acknowledged", lambda: self.unhandled() == 0, deadline_s)

    def handled_more(self, deadline_s: float = 60.0) -> None:
        """Wait until rankings have come since now."""
        before = sum(1 for _ in self.read("rankings"))
        eventually("rankings come", lambda: sum(1 for _ in self.read("rankings")) > before, deadline_s)

    def model(self) -> ServingModel:
        """The served model, over the catalogue as `items` has it."""
        into = self.folder / "offline"
        version = newest_version(self.settings.registry.address, self.settings.registry.model)
        assert version is not None
        folder = fetch_bundle(self.settings.registry, version, into)
        schema = read_manifest(folder).schema
        catalog = Catalog(schema.item_numeric)
        model = load_model(folder, catalog, self.settings.worker.serving)
        decode = InputDecoder(schema, self.settings.worker.limits)
        for message in self.read("items"):
            try:
                item = decode(_position(message), message.key(), message.value(), now_ms())
            except InvalidRecord:
                continue
            if item is None:
                catalog.withdraw(message.key().decode())
            else:
                assert isinstance(item, Item)
                catalog.put(item)
        return model

    def stored_rows(self) -> dict[Key, UserRow]:
        """The users' rows, as the changelog has them."""
        newest: dict[Key, bytes] = {}
        for message in self.read(self.settings.broker.changelog):
            place = message.partition(), message.key()
            if message.value() is None:
                newest.pop(place, None)
            else:
                newest[place] = message.value()
        rows = {}
        for (partition, key), value in newest.items():
            if b"\xff" not in key:
                prefix = list_prefix(key)
                beside = (held for (at, name), held in newest.items() if at == partition and name.startswith(prefix))
                lists = {listed.request_id: listed for listed in map(decode_list, beside)}
                # One that the head does not know of is of a worker that ended between the two: who reads the row next
                # takes it away.
                rows[partition, key] = assembled(decode_row(value), lists)
        return rows

    def folded_rows(self, model: ServingModel, seed: int | None = None) -> dict[Key, UserRow]:
        """The users' rows, folded here from the input topics; with a seed, in a shuffled interleaving of the topics."""
        queues = [list(self.read(topic)) for topic in USER_INPUTS]
        if seed is None:
            messages = [message for queue in queues for message in queue]
        else:
            messages = _interleaved(queues, random.Random(seed))
        decode = InputDecoder(model.schema, self.settings.worker.limits)
        ids = TopicIds(self.settings.broker, USER_INPUTS)
        asyncio.run(ids.take())
        rows: dict[Key, UserRow] = {}
        for message in messages:
            at = _position(message)._replace(topic_id=ids.of(message.topic()))
            try:
                record = decode(at, message.key(), message.value(), now_ms())
            except InvalidRecord:
                continue
            key = message.partition(), message.key()
            rows[key] = apply_input(rows.get(key, EMPTY), record, at, model.schema)
        return rows


def differences(stored: UserRow, folded: UserRow) -> list[str]:
    """The fields in which two rows differ, but for when they were begun; the summary, a sum in another order, may to
    rounding."""
    unequal = [
        f"{name}: {getattr(stored, name)!r:.200} instead of {getattr(folded, name)!r:.200}"
        for name in UserRow.__struct_fields__
        if name not in ("summary", "epoch") and getattr(stored, name) != getattr(folded, name)
    ]
    if not np.allclose(stored.long_term(), folded.long_term(), rtol=1e-4, atol=1e-4):
        unequal.append("summary")
    return unequal


def read_topic(address: str, topic: str, partitions: int) -> Iterator[Message]:
    """Everything that a topic holds now."""
    consumer = Consumer({"bootstrap.servers": address, "group.id": "reader", "enable.partition.eof": True})
    try:
        consumer.assign([TopicPartition(topic, partition, 0) for partition in range(partitions)])
        ended: set[int] = set()
        while len(ended) < partitions:
            message = consumer.poll(10)
            assert message is not None, f"{topic} does not answer"
            if message.error() is None:
                yield message
            else:
                assert message.error().code() == KafkaError._PARTITION_EOF, message.error()
                ended.add(message.partition())
    finally:
        consumer.close()


def assert_state_and_rankings(installation: Installation) -> dict[str, int]:
    """Invariants 1 and 2: every row is the fold of its user's inputs, and every user's last ranking is right.

    Returns:
        How much was compared: users, inputs, rankings, and how many rankings came more than once.
    """
    model = installation.model()
    stored = installation.stored_rows()
    rankings = installation.rankings()
    for seed in (None, 7):
        folded = installation.folded_rows(model, seed)
        assert set(stored) == set(folded), f"rows without inputs, or inputs without rows: {set(stored) ^ set(folded)}"
        wrong = {key: unequal for key, row in folded.items() if (unequal := differences(stored[key], row))}
        assert not wrong, wrong
    last = _last_rankings(rankings)
    listed = {
        (key[1].decode(), current.request_id): row.of(current) for key, row in folded.items() for current in row.current
    }
    assert set(listed) <= set(last), f"lists without a ranking: {set(listed) - set(last)}"
    users = sorted(listed)
    for start in range(0, len(users), 32):
        some = users[start : start + 32]
        for user, expected in zip(some, model.rank([(user[0], listed[user]) for user in some]), strict=True):
            ranking = last[user]
            assert ranking.revision == listed[user].revision, user
            assert ranking.applied == listed[user].applied, user
            scores = {item.item_id: item.score for item in ranking.items}
            wanted = dict(zip(expected.item_ids, expected.scores, strict=True))
            assert scores == _close(wanted), user
    inputs = sum(sum(1 for _ in installation.read(topic)) for topic in USER_INPUTS)
    seen = {(r.user_id, r.request_id, r.revision, r.cause.topic, r.cause.offset) for r in rankings}
    return {"users": len(stored), "inputs": inputs, "rankings": len(rankings), "repeated": len(rankings) - len(seen)}


def _close(scores: Mapping[str, float]) -> Any:
    import pytest

    return pytest.approx(scores, rel=1e-4, abs=1e-4)


def _last_rankings(rankings: list[Ranking]) -> dict[tuple[str, str], Ranking]:
    """What a consumer holds that keeps the highest revision of each list, and the later one of two."""
    last: dict[tuple[str, str], Ranking] = {}
    for ranking in rankings:
        held = last.get((ranking.user_id, ranking.request_id))
        if held is None or ranking.revision >= held.revision:
            last[ranking.user_id, ranking.request_id] = ranking
    return last


def _interleaved(queues: list[list[Message]], rng: random.Random) -> list[Message]:
    """One order of all messages that keeps each topic's own."""
    places = [number for number, queue in enumerate(queues) for _ in queue]
    rng.shuffle(places)
    heads = [iter(queue) for queue in queues]
    return [next(heads[place]) for place in places]


def _position(message: Message) -> Position:
    return Position(message.topic(), message.partition(), message.offset(), message.timestamp()[1])
