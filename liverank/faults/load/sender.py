"""Sends a workload at a rate, with bursts, and records what was sent and what the broker acknowledged."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from random import Random
from typing import Any

from confluent_kafka import KafkaException, Message, Producer

from liverank.faults.load.inputs import InputPlace, Planned, Recorded, record_digest
from liverank.faults.load.workload import Workload
from ranker.contracts.clock import now_ms
from ranker.contracts.errors import LiverankError
from ranker.contracts.topics import CANDIDATES
from streams.kafka import connection
from streams.settings import BrokerSettings

BURST = 20  # times the rate, for a second
_BURST_EVERY_S = (10.0, 60.0)
_POISON_EVERY_S = (0.2, 1.0)
_DELIVERED_S = 180.0
_TRANSACTION_S = 30.0


class Sender(threading.Thread):
    """Sends from `start` to `finish`. `recorded` belongs to the thread until then."""

    def __init__(
        self,
        settings: BrokerSettings,
        workload: Workload,
        rate: float,
        *,
        seed: int = 0,
        refused: dict[bytes, str] | None = None,
    ) -> None:
        """
        Args:
            settings: where the broker is, reached directly.
            workload: what to send.
            rate: inputs a second, outside bursts.
            seed: of the moments of bursts and poison.
            refused: takes `record_digest` of each record that is sent to be refused, and the reason; None: there is no
                stranger who sends such, and there are no bursts.
        """
        super().__init__(daemon=True, name="sender")
        self.recorded: list[Recorded] = []
        self.bursts = 0
        self._settings, self._workload, self._rate = settings, workload, rate
        self._rng, self._refused = Random(seed), refused
        self._producers: dict[str, Producer] = {}
        self._done = threading.Event()
        self._error: BaseException | None = None

    def open(self) -> None:
        """Send what is to be ranked before all else, and wait until the broker has it."""
        self._send(self._workload.opening(now_ms()))
        self._flush()

    def run(self) -> None:
        """By the clock, until `finish`."""
        try:
            self._run()
        except BaseException as error:
            self._error = error

    def finish(self) -> list[Recorded]:
        """Stop, wait until the broker has everything, and give what was sent.

        Raises:
            LiverankError: it did not take everything in time.
        """
        self._done.set()
        self.join(_DELIVERED_S)
        if self._error is not None:
            raise self._error
        self._flush()
        return self.recorded

    def _run(self) -> None:
        alone = self._refused is None
        poison = [] if alone else self._workload.poison(now_ms())
        due, drop = time.monotonic(), self._later(_POISON_EVERY_S)
        burst = math.inf if alone else self._later(_BURST_EVERY_S)
        while not self._done.is_set():
            now = time.monotonic()
            if now >= burst:
                self._burst()
                burst = self._later(_BURST_EVERY_S)
            if poison and now >= drop:
                self._send([poison.pop()])
                drop = self._later(_POISON_EVERY_S)
            self._send(self._workload.following(now_ms()))
            due = max(due + 1 / self._rate, now - 1)  # what a burst took is not made up for
            self._done.wait(max(0.0, due - time.monotonic()))
        self._send(poison)

    def _later(self, span: tuple[float, float]) -> float:
        return time.monotonic() + self._rng.uniform(*span)

    def _burst(self) -> None:
        for _ in range(round(BURST * self._rate)):
            self._send(self._workload.following(now_ms()))
        self.bursts += 1

    def _send(self, planned: Iterable[Planned]) -> None:
        for one in planned:
            place = len(self.recorded)
            self.recorded.append(Recorded(planned=one))
            if one.reason is not None:
                assert self._refused is not None
                self._refused[record_digest(one.key, one.value)] = one.reason
            produce(self._producer(one.codec), self._settings, one, partial(self._delivered, place))
        for producer in self._producers.values():
            producer.poll(0)

    def _delivered(self, number: int, error: Any, message: Message) -> None:
        if error is None:
            at = InputPlace(message.topic() or "", message.partition() or 0, message.offset() or 0)
            self.recorded[number] = Recorded(planned=self.recorded[number].planned, place=at)

    def _producer(self, codec: str) -> Producer:
        if codec not in self._producers:
            self._producers[codec] = input_producer(self._settings, codec)
        return self._producers[codec]

    def _flush(self) -> None:
        left = sum(producer.flush(_DELIVERED_S) for producer in self._producers.values())
        if left:
            raise LiverankError(f"the broker did not take {left} records within {_DELIVERED_S:.0f} s")


def input_producer(settings: BrokerSettings, codec: str = "", transactional_id: str | None = None) -> Producer:
    """A producer of an application: it spreads keys as Java's does, and repeats nothing by itself."""
    config: dict[str, Any] = {
        "partitioner": connection.PARTITIONER, "enable.idempotence": True, "linger.ms": 2, "log_level": 0,
        "message.max.bytes": connection.MAX_MESSAGE_BYTES, "compression.type": codec or "none",
    }  # fmt: skip
    if transactional_id is not None:
        config |= {"transactional.id": transactional_id, "transaction.timeout.ms": 10_000}
    return Producer(connection.librdkafka(settings) | config)


def produce(producer: Producer, settings: BrokerSettings, planned: Planned, delivered: Any = None) -> None:
    """Hand a planned record to a producer."""
    stamp = {} if planned.timestamp is None else {"timestamp": planned.timestamp}
    called = settings.topics.called(planned.topic)
    producer.produce(called, planned.value, planned.key, on_delivery=delivered, **stamp)


def send_transactions(settings: BrokerSettings, user: str) -> None:
    """Lists of transactions: an aborted one, one that is committed, and an aborted one at the end.

    Where the broker goes away meanwhile, what becomes of the one that is open is the broker's to say.
    """
    for number, name in enumerate(("aborted", "committed", "aborted")):
        producer = input_producer(settings, transactional_id=f"poison-{user}-{number}")
        listed = {"user_id": user, "request_id": name, "items": [{"item_id": name}]}
        with suppress(KafkaException):
            producer.init_transactions(_TRANSACTION_S)
            producer.begin_transaction()
            value = json.dumps(listed).encode()
            produce(producer, settings, Planned(topic=CANDIDATES, key=user.encode(), value=value))
            producer.flush(_TRANSACTION_S)
            end = producer.commit_transaction if name == "committed" else producer.abort_transaction
            end(_TRANSACTION_S)
