"""What topics hold now, read from outside every group."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from ranker.contracts.errors import LiverankError
from streams.access.preflight import REACHED_WITHIN_S, check_reached
from streams.access.rights import shown_user
from streams.kafka import connection
from streams.settings import BrokerSettings

ANSWER_S = 10.0


class OffsetSpan(NamedTuple):
    """Offsets of a partition: from `start` up to, and without, `end`."""

    start: int
    end: int


def spans_of(
    settings: BrokerSettings, topic: str, since: int | None = None, answer_s: float = ANSWER_S
) -> dict[int, OffsetSpan]:
    """What each partition of a topic holds now.

    Args:
        settings: where the broker is.
        topic: its name, ours.
        since: milliseconds since the epoch; begin at the first record whose message is of that time or later.
        answer_s: how long to wait for the broker.

    Raises:
        LiverankError: there is no such topic, or the broker does not answer.
    """
    topic = settings.topics.called(topic)
    with _consumer(settings, answer_s) as consumer:
        try:
            found = consumer.list_topics(topic, timeout=answer_s).topics[topic]
            if found.error is not None:
                raise LiverankError(_unread(settings, topic, found.error))
            spans = {
                number: OffsetSpan(*consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=answer_s))
                for number in sorted(found.partitions)
            }
            if since is not None:
                asked = [TopicPartition(topic, number, since) for number in spans]
                for place in consumer.offsets_for_times(asked, timeout=answer_s):
                    start, end = spans[place.partition]
                    spans[place.partition] = OffsetSpan(max(start, place.offset) if place.offset >= 0 else end, end)
        except KafkaException as error:
            raise LiverankError(
                f"{topic} cannot be read from {settings.addresses}: {error.args[0].str()}; see `liverank topics check`"
            ) from error
    return spans


def read_spans(
    settings: BrokerSettings, topic: str, spans: Mapping[int, OffsetSpan], answer_s: float = ANSWER_S
) -> Iterator[Message]:
    """The committed records within spans of a topic's partitions, each partition's in its order.

    Raises:
        LiverankError: the broker does not answer.
    """
    topic = settings.topics.called(topic)
    left = {number for number, span in spans.items() if span.start < span.end}
    with _consumer(settings, answer_s) as consumer:
        consumer.assign([TopicPartition(topic, number, spans[number].start) for number in left])
        for message in _until_ended(consumer, settings, topic, left, answer_s):
            number, offset = message.partition() or 0, message.offset() or 0
            if number in left and offset < spans[number].end:
                yield message
            if offset + 1 >= spans[number].end:  # where nobody waits for this partition to pause
                left.discard(number)


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
    topic = settings.topics.called(topic)
    with _consumer(settings, answer_s) as consumer:
        _check_readable(settings, consumer, topic, answer_s)
        consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
        if newest is not None:
            consumer.assign(
                [_near_the_end(settings, consumer, topic, number, newest, answer_s) for number in partitions]
            )
        yield from _until_ended(consumer, settings, topic, set(partitions), answer_s)


@contextmanager
def _consumer(settings: BrokerSettings, answer_s: float) -> Iterator[Consumer]:
    check_reached(settings, min(answer_s, REACHED_WITHIN_S))
    config: dict[str, Any] = {"enable.partition.eof": True, "enable.auto.commit": False}
    config |= {"auto.offset.reset": "earliest"}  # retention may have passed the place where reading was to begin
    config |= {"group.id": f"{settings.group}-operator", "log_level": 0}  # what is wrong is said here, in one line
    consumer = Consumer(connection.librdkafka(settings) | config)
    try:
        yield consumer
    finally:
        consumer.close()


def _until_ended(
    consumer: Consumer, settings: BrokerSettings, topic: str, open_ones: set[int], answer_s: float
) -> Iterator[Message]:
    """Records until each of these partitions has come to its end."""
    while open_ones:
        message = consumer.poll(answer_s)
        if message is None:
            raise LiverankError(f"no Kafka broker answers at {settings.addresses}")
        error = message.error()
        if error is None:
            yield message
        elif error.code() == KafkaError._PARTITION_EOF:
            open_ones.discard(message.partition() or 0)
        else:
            raise LiverankError(_unread(settings, topic, error))


def _check_readable(settings: BrokerSettings, consumer: Consumer, topic: str, answer_s: float) -> None:
    """A consumer of a topic that it may not see waits for it, and says nothing."""
    try:
        error = consumer.list_topics(topic, timeout=answer_s).topics[topic].error
    except KafkaException as failed:
        raise LiverankError(f"no Kafka broker answers at {settings.addresses}: {failed.args[0].str()}") from failed
    if error is not None:
        raise LiverankError(_unread(settings, topic, error))


def _near_the_end(
    settings: BrokerSettings, consumer: Consumer, topic: str, partition: int, newest: int, answer_s: float
) -> TopicPartition:
    try:
        low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=answer_s)
    except KafkaException as error:
        raise LiverankError(_unread(settings, topic, error.args[0])) from error
    return TopicPartition(topic, partition, max(low, high - newest))


def _unread(settings: BrokerSettings, topic: str, error: KafkaError) -> str:
    if error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
        return f"{shown_user(settings)} may not READ {topic}; `liverank topics acls` prints what an operator needs"
    if error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
        return f"the topic {topic} does not exist on {settings.addresses}; see `liverank topics check`"
    return f"{topic} cannot be read from {settings.addresses}: {error.str()}; see `liverank topics check`"
