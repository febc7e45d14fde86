"""Where partitions end, on both brokers."""

from __future__ import annotations

from collections.abc import Callable

from aiokafka import TopicPartition

from liverank.settings import Settings
from streams.kafka.ends import read_ends
from streams.kafka.outbox import Outbox


async def test_an_end_is_after_the_last_record_of_the_last_batch(broker: str, new_topic: Callable[..., str]) -> None:
    """Also where that batch has several records; of an empty partition it is 0."""
    topic = new_topic(broker, partitions=2)
    settings = Settings(brokers=broker)
    outbox = Outbox(settings)
    for count in (1, 7, 30):
        for _ in range(count):
            outbox.send(topic, b"k", b"v", 0)
        await outbox.confirmed(outbox.cut())
    full, empty = TopicPartition(topic, 0), TopicPartition(topic, 1)
    assert await read_ends(settings, [full, empty]) == {full: 38, empty: 0}
