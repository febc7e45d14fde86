"""What goes out, by librdkafka, and the wait until the broker has confirmed it."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from ranker.contracts.errors import LiverankError
from streams.kafka import connection
from streams.settings import BrokerSettings

log = logging.getLogger(__name__)

Confirmed = Callable[[int], None]
#: Topic, key and value of a record.
Outgo = tuple[str, bytes | None, bytes]
#: What goes out in place of a record that its topic does not take for its size, or nothing.
Instead = Callable[[], Outgo | None]

_POLL_S = 0.001
#: A record of so many bytes is alone in its batch (`batch.size`): what is said of the batch's size is said of it.
#: Smaller ones are refused by topics alone that no worker starts with.
_ALONE = 1_000_000


class SendError(LiverankError):
    """The broker did not take a record."""


class SentRecords:
    """The records sent between two calls of `Outbox.cut`."""

    def __init__(self) -> None:
        self.waiting = 0
        self.error: SendError | None = None


class Outbox:
    """Sends records at once; `confirmed` waits for the broker's word on all of them.

    At least once: a record is confirmed when every in-sync replica has it. One that cannot be delivered makes
    `confirmed` raise, so nothing that depends on it is acknowledged.
    """

    def __init__(
        self, settings: BrokerSettings, deliver_within_s: float = 120.0, more: Mapping[str, Any] | None = None
    ) -> None:
        """
        Args:
            settings: where the broker is.
            deliver_within_s: a record that the broker has not confirmed by then is an error, and is not sent any more.
            more: of librdkafka's producer settings.
        """
        config = {**connection.PRODUCING, "message.timeout.ms": round(deliver_within_s * 1000), **(more or {})}
        self._producer = Producer(connection.librdkafka(settings) | config, logger=log)
        self._topics = settings.topics
        self._lock = threading.Lock()
        self._open = SentRecords()

    def __len__(self) -> int:
        """Records that are not confirmed yet."""
        return len(self._producer)

    def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        partition: int = -1,
        confirmed: Confirmed | None = None,
        at_ms: int | None = None,
        instead: Instead | None = None,
    ) -> None:
        """Send one record. Any thread may; where the buffer is full, the call waits for room.

        Args:
            topic: where to, by our name.
            key: chooses the partition where none is given.
            value: the record's bytes, None for a tombstone.
            partition: -1 lets the key choose.
            confirmed: called with the record's offset.
            at_ms: the record's timestamp; else the present.
            instead: gives what is sent in its place where its topic takes no record of its size; without it that is an
                error as any other.
        """
        with self._lock:  # together, or a cut between the two would miss this record
            sent = self._open
            sent.waiting += 1
        self._send(sent, topic, key, value, partition, confirmed, at_ms, instead)

    def _send(
        self,
        sent: SentRecords,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        partition: int = -1,
        confirmed: Confirmed | None = None,
        at_ms: int | None = None,
        instead: Instead | None = None,
    ) -> None:
        own = instead if len(value or b"") >= _ALONE else None
        report = self._report(sent, confirmed, own)
        while True:
            try:
                self._producer.produce(
                    self._topics.called(topic), value, key, partition, on_delivery=report, timestamp=at_ms or 0
                )
            except BufferError:
                self._poll(0.05)
            except KafkaException as error:
                self._failed(sent, topic, error.args[0], own)
                return
            else:
                return

    def poll(self) -> None:
        """Take in the delivery reports that have come.

        Raises:
            SendError: the broker takes nothing any more from this process.
        """
        self._poll()

    async def room(self, most: int) -> None:
        """Wait until at most so many records are unconfirmed."""
        self._poll()
        while len(self._producer) > most:
            await asyncio.sleep(_POLL_S)
            self._poll()

    def cut(self) -> SentRecords:
        """The records sent so far; what is sent from now on counts for the next cut."""
        with self._lock:
            sent, self._open = self._open, SentRecords()
        return sent

    async def confirmed(self, sent: SentRecords) -> None:
        """Wait until the broker has confirmed these records.

        Raises:
            SendError: it did not take one of them.
        """
        self._poll()
        while sent.waiting and sent.error is None:
            await asyncio.sleep(_POLL_S)
            self._poll()
        if sent.error is not None:
            raise sent.error

    def close(self, timeout_s: float) -> int:
        """Wait for what is on its way; returns how many records were left unconfirmed."""
        left: int = self._producer.flush(timeout_s)
        return left

    def _poll(self, timeout_s: float = 0.0) -> None:
        try:
            self._producer.poll(timeout_s)
        except KafkaException as error:  # fatal: it was fenced
            raise SendError(refused(error)) from error

    def _report(
        self, sent: SentRecords, confirmed: Confirmed | None, instead: Instead | None
    ) -> Callable[[Any, Message], None]:
        def report(error: Any, message: Message) -> None:
            if error is not None:
                self._failed(sent, str(message.topic()), error, instead)
                return
            self._settle(sent, None)
            if confirmed is not None:
                confirmed(message.offset())

        return report

    def _failed(self, sent: SentRecords, topic: str, error: Any, instead: Instead | None) -> None:
        """A record was not taken. What goes out in its place counts among those that were sent with it."""
        if error.code() != KafkaError.MSG_SIZE_TOO_LARGE or instead is None:
            self._settle(sent, SendError(undelivered(topic, error)))
        elif (other := instead()) is None:
            self._settle(sent, None)
        else:
            self._send(sent, *other)

    def _settle(self, sent: SentRecords, error: SendError | None) -> None:
        with self._lock:
            sent.waiting -= 1
            sent.error = sent.error or error


def refused(error: KafkaException) -> str:
    """Why the broker takes nothing of a transaction, in a sentence."""
    why = error.args[0]
    if why.code() in (KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH, KafkaError.PRODUCER_FENCED):
        return (
            "the broker takes nothing any more from this process: a later one has its transactional id (two have "
            f"copies of one data folder), or its transaction had lasted for too long: {why.str()}"
        )
    if why.code() == KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED:
        return (
            "this process's user may not WRITE under its transactional id; `liverank topics acls` prints what each "
            "role needs"
        )
    if why.code() == KafkaError.INVALID_TRANSACTION_TIMEOUT:
        return (
            "a checkpoint may take as long as LIVERANK_SESSION_TIMEOUT_S, and that is longer than the broker's "
            "transaction.max.timeout.ms: give a shorter one"
        )
    return f"a checkpoint was not taken: {why.str()}"


def undelivered(topic: str, error: Any) -> str:
    """Why the broker has not taken a record for a topic, by librdkafka's error."""
    if error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
        return f"this process's user may not WRITE {topic}; `liverank topics acls` prints what each role needs"
    if error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
        return (
            f"a record for {topic} was not delivered: it is larger than max.message.bytes of that topic, which "
            f"should be {connection.MAX_MESSAGE_BYTES}; `liverank topics check` says it of each"
        )
    return f"a record for {topic} was not delivered: {error.str()}"
