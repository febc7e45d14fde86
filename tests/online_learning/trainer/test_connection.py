"""What the trainer reads of its topics, on Apache Kafka."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewPartitions

from liverank.settings import Settings, changed
from online_learning.trainer.connection import Connection
from online_learning.trainer.metrics import TrainerMetrics
from streams.kafka.admin import create_topics
from streams.kafka.connection import aiokafka


async def test_partitions_that_examples_are_given_are_read(kafka: str) -> None:
    """From their beginning, while the others go on from where they were."""
    settings = changed(Settings(), brokers=kafka, topics_prefix="more.", partitions=1)
    create_topics(settings.broker, 1)
    name, admin = "more.examples", AdminClient({"bootstrap.servers": kafka})

    def send(partition: int, value: bytes) -> None:
        producer = Producer({"bootstrap.servers": kafka})
        producer.produce(name, value, partition=partition)
        assert producer.flush(30) == 0

    async def gathered(connection: Connection, count: int) -> set[bytes]:
        found: set[bytes] = set()
        async with asyncio.timeout(60):
            while len(found) < count:
                found |= {record.value for record in await connection.gather(10)}
        return found

    connection = Connection(settings.trainer, aiokafka(settings.broker), "more", TrainerMetrics(), asyncio.Event())
    async with AsyncExitStack() as clients:
        await connection.connect(clients)
        send(0, b"old")
        await connection.assign({})
        assert await gathered(connection, 1) == {b"old"}
        assert not connection.grown
        admin.create_partitions([NewPartitions(name, 2)], operation_timeout=30)[name].result(30)
        send(1, b"elsewhere")
        send(0, b"new")
        async with asyncio.timeout(60):
            while not connection.grown:
                await connection.examples._client.force_metadata_update()
        await connection.assign({f"{name}-0": 1})
        assert not connection.grown
        assert await gathered(connection, 2) == {b"elsewhere", b"new"}
