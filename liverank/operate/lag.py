"""What a group has not read yet."""

from __future__ import annotations

from collections.abc import Iterable

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient
from msgspec import Struct

from streams.kafka import connection
from streams.settings import BrokerSettings

_ANSWER_S = 30.0


class Unread(Struct, frozen=True):
    """A partition that a group has not read to its end: offsets after the last record, and after the last one read."""

    end: int
    committed: int


def unread(settings: BrokerSettings, group: str, topics: Iterable[str]) -> dict[str, Unread]:
    """Where a group has not committed up to the end, by `topic-partition`.

    Args:
        settings: where the broker is.
        group: its name.
        topics: by the broker's names, of `settings.partitions` partitions each.

    Raises:
        KafkaException: the broker does not answer.
    """
    admin = AdminClient(connection.librdkafka(settings) | {"log_level": 0})
    listed = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])[group].result(_ANSWER_S)
    committed = {(place.topic, place.partition): max(place.offset, 0) for place in listed.topic_partitions or ()}
    # Ends of all that was written: what lies behind an open transaction is not read either.
    config = {"group.id": f"{group}-lag", "log_level": 0, "isolation.level": "read_uncommitted"}
    consumer = Consumer(connection.librdkafka(settings) | config)
    try:
        left = {}
        for topic in topics:
            for partition in range(settings.partitions):
                end = consumer.get_watermark_offsets(TopicPartition(topic, partition), _ANSWER_S)[1]
                done = committed.get((topic, partition), 0)
                if done < end:
                    left[f"{topic}-{partition}"] = Unread(end, done)
        return left
    finally:
        consumer.close()
