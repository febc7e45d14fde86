"""librdkafka's consumer with partitions that are assigned by hand: it joins no group and commits nothing.

What to know of it:

* a partition is sought by being unassigned and assigned again: of what librdkafka had queued it hands on nothing then,
  and a `pause` or `seek` soon after an `assign` may undo it (confluentinc/librdkafka, 2190);
* `consume` waits until it has as many messages as it was asked for. So it is asked for those that are there, and where
  there are none `poll` waits for one;
* offsets without a record (aborted transactions, markers, compaction) show in what comes behind them: the next record,
  or the event that the partition's end is reached. That stands in line with the records: all before it were seen;
* a batch whose checksum is wrong, or that it cannot decompress, is an error among the messages, and it goes on behind;
* it takes a topic that was deleted and made anew for the old one: it reads on at the same offset, and where the old
  one's leaders had higher epochs it ignores what it is told of the new ones. Another consumer knows nothing of that.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from ranker.contracts.errors import LiverankError
from streams.kafka import connection
from streams.kafka.progress import Place
from streams.settings import BrokerSettings

log = logging.getLogger(__name__)

_SETTINGS: dict[str, Any] = {
    "isolation.level": connection.READ_COMMITTED,
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "auto.offset.reset": "earliest",  # where the offset to read from is gone
    "enable.partition.eof": True,
    "check.crcs": True,
    # A partition that is sought waits for the answer to the fetch under way, which waits for records of the others.
    "fetch.wait.max.ms": 250,
    "fetch.error.backoff.ms": 100,
    "fetch.queue.backoff.ms": 5,  # after which a full queue is looked at again; by default a second
    "queued.min.messages": 2000,
    "queued.max.messages.kbytes": 16 << 10,
    "fetch.max.bytes": connection.MAX_MESSAGE_BYTES,
    "max.partition.fetch.bytes": 1 << 20,  # a larger batch comes all the same, alone
    "reconnect.backoff.max.ms": 1000,
    # A request that waits for a broker that has gone is asked again after so long, and nothing comes of its partition
    # until then (confluentinc/librdkafka, 843); by default a minute.
    "socket.timeout.ms": 20_000,
}
_BATCH = 500  # messages that it is asked for at once
#: Errors behind which librdkafka goes on, so that records would be missing.
_LOSSES = (
    KafkaError._BAD_MSG, KafkaError._BAD_COMPRESSION, KafkaError._NOT_IMPLEMENTED, KafkaError._UNDERFLOW,
    KafkaError._AUTO_OFFSET_RESET, KafkaError.MSG_SIZE_TOO_LARGE,
)  # fmt: skip
_REFUSALS = (
    KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
)  # fmt: skip


class FetchError(LiverankError):
    """The broker's records cannot be read."""


class AssignedConsumer:
    """Belongs to one thread. `assigned` are the partitions that it reads."""

    def __init__(self, settings: BrokerSettings) -> None:
        """
        Args:
            settings: where the broker is. librdkafka insists on a group's name, and asks who coordinates it, no more.
        """
        config = {**connection.librdkafka(settings), **_SETTINGS, "group.id": settings.group, "error_cb": _trouble}
        self._consumer = Consumer(config, logger=log)
        self.assigned: set[Place] = set()

    def assign(self, places: Iterable[tuple[Place, int]]) -> None:
        """Read these partitions, each from an offset on."""
        places = list(places)
        self.unassign(place for place, _ in places)
        if places:
            self._consumer.incremental_assign([TopicPartition(*place, offset) for place, offset in places])
            self.assigned |= {place for place, _ in places}

    def unassign(self, places: Iterable[Place]) -> None:
        """Read these partitions no more."""
        gone = self.assigned.intersection(places)
        if gone:
            self._consumer.incremental_unassign([TopicPartition(*place) for place in gone])
            self.assigned -= gone

    def messages(self, within_s: float) -> list[Message]:
        """What has come, in the order of each partition; where nothing has, the next one that comes in time.

        A message is a record, or says by its error that a partition's end is reached; others are noted on the log.

        Raises:
            FetchError: a record was passed that cannot be read, or nothing of its topic may be.
        """
        found = self._consumer.consume(_BATCH, 0)
        if not found:
            message = self._consumer.poll(within_s)
            found = [] if message is None else [message]
        return [message for message in found if message.error() is None or _ended(message)]

    def high(self, place: Place) -> int | None:
        """Where a partition ended when it was last fetched from, open transactions included; None where it was not."""
        try:
            _, high = self._consumer.get_watermark_offsets(TopicPartition(*place), cached=True)
        except KafkaException:  # it does not know of it yet
            return None
        return high if high >= 0 else None

    def close(self) -> None:
        """Leave the broker."""
        self._consumer.close()


def _ended(message: Message) -> bool:
    """Whether the message says that its partition's end is reached.

    Raises:
        FetchError: it says that there is something that cannot be read.
    """
    error = message.error()
    code = error.code()
    if code == KafkaError._PARTITION_EOF:
        return True
    where = "" if message.topic() is None else f" of {message.topic()}-{message.partition()}"
    if code in _LOSSES:
        raise FetchError(f"the records{where} at {message.offset()} cannot be read: {error.str()}")
    if code in _REFUSALS or error.fatal():
        raise FetchError(f"the broker does not hand out the records{where}: {error.str()}")
    log.warning("fetching%s goes on after an error: %s", where, error.str())  # a topic that is away, a broker
    return False


def _trouble(error: KafkaError) -> None:
    log.warning("fetching goes on after an error: %s", error.str())
