"""What topics hold now, read from outside every group."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from ranker.contracts.errors import LiverankError
from streams.kafka import connection
from streams.settings import BrokerSettings

ANSWER_S = 10.0


def read_to_end(
    settings: BrokerSettings,
    topic: str,
    partitions: Sequence[int],
    newest: int | None = None,
    answer_s: float = ANSWER_S,
) -> Iterator[Message]:
    """The records of some partitions, each partition's in its order, up to where they end now.

    Args:
        settings: where the broker is.
        topic: its name, ours or, of a changelog, the broker's.
        partitions: by number.
        newest: so many of each partition at most, the newest ones; None: all.
        answer_s: how long to wait for the broker.

    Raises:
        LiverankError: there is no such topic, or the broker does not answer.
    """
    config: dict[str, Any] = {"enable.partition.eof": True, "enable.auto.commit": False}
    config |= {"group.id": f"{settings.group}-operator", "log_level": 0}  # what is wrong is said here, in one line
    consumer = Consumer(connection.librdkafka(settings) | config)
    topic = settings.topics.called(topic)
    try:
        consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
        if newest is not None:
            consumer.assign(
                [_near_the_end(settings, consumer, topic, number, newest, answer_s) for number in partitions]
            )
        ended: set[int] = set()
        while len(ended) < len(partitions):
            message = consumer.poll(answer_s)
            if message is None:
                raise LiverankError(f"no Kafka broker answers at {settings.addresses}")
            error = message.error()
            if error is None:
                yield message
            elif error.code() == KafkaError._PARTITION_EOF:
                ended.add(message.partition() or 0)
            else:
                raise LiverankError(f"{topic} cannot be read: {error.str()}; see `liverank topics check`")
    finally:
        consumer.close()


def _near_the_end(
    settings: BrokerSettings, consumer: Consumer, topic: str, partition: int, newest: int, answer_s: float
) -> TopicPartition:
    try:
        low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=answer_s)
    except KafkaException as error:
        raise LiverankError(
            f"{topic} cannot be read from {settings.addresses}: {error.args[0].str()}; see `liverank topics check`"
        ) from error
    return TopicPartition(topic, partition, max(low, high - newest))
