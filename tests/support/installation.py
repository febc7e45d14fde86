"""Real workers on real brokers: what the integration and fault tests are made of."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from confluent_kafka import (
    Consumer,
    KafkaError,
    Message,
    Producer,
    TopicPartition,
)

from liverank.faults.check import amounts_of, check_state_and_rankings
from liverank.faults.checker.rankings import current_lists
from liverank.faults.checker.state import RowPlace, stored_rows
from liverank.faults.load.workload import CURIOUS, user_kind
from liverank.faults.offline import OfflineRanker
from liverank.faults.readback import ReadBack
from liverank.faults.system import inputs_left
from liverank.operate.lag import unread
from liverank.settings import Settings, changed, environment_of
from ranker.contracts.records import DeadLetter, Ranking
from ranker.contracts.topics import ITEMS, USER_INPUTS
from ranker.registry.bundle import newest_version, read_remote_manifest
from ranker.state.row import UserRow
from streams.kafka.admin import create_topics
from tests.support.waiting import eventually

REPOSITORY = Path(__file__).parents[2]


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
        topics = map(self.settings.topics.called, (*USER_INPUTS, ITEMS))
        left = unread(self.settings.broker, self.settings.broker.group, topics)
        return sum(one.end - one.committed for one in left.values())

    def all_handled(self, deadline_s: float = 120.0) -> None:
        """Wait until every input is acknowledged."""
        eventually("every input is acknowledged", lambda: self.unhandled() == 0, deadline_s)

    def handled_more(self, deadline_s: float = 60.0) -> None:
        """Wait until rankings have come since now."""
        before = sum(1 for _ in self.read("rankings"))
        eventually("rankings come", lambda: sum(1 for _ in self.read("rankings")) > before, deadline_s)

    def read_back(self) -> ReadBack:
        """What the checker asks for, of nothing that was read yet."""
        version = newest_version(self.settings.registry.address, self.settings.registry.model)
        assert version is not None
        return ReadBack(self.settings, read_remote_manifest(self.settings.registry, version)[0].schema)

    def stored_rows(self) -> dict[RowPlace, UserRow]:
        """The users' rows, as the changelog has them."""
        back = self.read_back()
        back.read_rows()
        return stored_rows(back.stored)

    def folded_rows(self) -> dict[RowPlace, UserRow]:
        """The users' rows, folded here from the input topics."""
        back = self.read_back()
        back.read_inputs()
        return back.folded[0]


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


def assert_state_and_rankings(installation: Installation) -> dict[str, Any]:
    """Invariants 1 and 2: every row is the fold of its user's inputs, and every user's last ranking is right.

    Returns:
        How much was compared.
    """
    assert inputs_left(installation.settings.broker, 120) == {}
    back = installation.read_back()
    back.read()
    rank = OfflineRanker(installation.settings, back.catalog, installation.folder / "offline")
    found, compared = check_state_and_rankings(back, rank)
    assert not found, "\n".join(f"{one.kind}: {one.what}" for one in found[:20])
    listed = current_lists((key[1], row) for key, row in back.folded[0].items())
    assert compared == sum(user_kind(user) != CURIOUS for user, _ in listed), "all by score"
    return amounts_of(back)
