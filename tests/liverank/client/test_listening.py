"""Rankings are followed wherever they come, also in partitions that their topic is given later; on Apache Kafka."""

from __future__ import annotations

import asyncio

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

from liverank.client import listening
from liverank.client.listening import Listener
from liverank.client.newest import NewestRankings
from liverank.settings import Settings, changed


async def heard(newest: NewestRankings, user: str) -> None:
    """Wait for the user's ranking."""
    with newest.watching(user) as watch:
        async with asyncio.timeout(30):
            while newest.newest(user, "r") is None:
                await watch.changed()


async def test_partitions_that_a_topic_is_given_are_read(kafka: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From their beginning, beside those that were there; what comes to these still comes."""
    monkeypatch.setattr(listening, "MORE_EVERY_S", 0.2)
    settings = changed(Settings(), brokers=kafka, topics_prefix="grows.").broker
    admin = AdminClient({"bootstrap.servers": kafka})
    named = [settings.topics.called(topic) for topic in ("rankings", "dead-letters")]
    for made in admin.create_topics([NewTopic(name, 1, 1) for name in named], operation_timeout=30).values():
        made.result(30)

    def send(user: str, partition: int) -> None:
        body = f'{{"ranking_id": "{user}", "user_id": "{user}", "revision": 1, "applied": {{}}, "request_id": "r"}}'
        producer = Producer({"bootstrap.servers": kafka})  # one that knows how many partitions there are
        producer.produce(named[0], body, partition=partition)
        assert producer.flush(30) == 0

    newest = NewestRankings(10, 1)
    listener = Listener(settings, newest)
    await listener.start()
    try:
        send("before", 0)
        await heard(newest, "before")
        admin.create_partitions([NewPartitions(named[0], 3)], operation_timeout=30)[named[0]].result(30)
        for partition in (2, 1, 0):
            send(f"after-{partition}", partition)
        for partition in (0, 1, 2):
            await heard(newest, f"after-{partition}")
        assert not listener.ended
    finally:
        listener.close()
