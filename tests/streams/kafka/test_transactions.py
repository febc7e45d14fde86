"""Fencing by the broker's transactions: who has lost partitions changes nothing, and who gets them sees everything."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from confluent_kafka import Consumer, Producer, TopicPartition
from msgspec.structs import replace

from liverank.local.broker import Broker
from streams.kafka.admin import create_topics
from streams.kafka.outbox import SendError
from streams.kafka.settled import SettledEnds
from streams.kafka.transactions import Membership, TransactionalOutbox, transactional_id
from streams.settings import BrokerSettings
from tests.support.installation import read_topic

PLACE = ("clicks", 0)


def test_a_membership_is_written_as_librdkafka_writes_it() -> None:
    """Of a consumer that was never in a group."""
    consumer = Consumer({"group.id": "shop", "log_level": 0})
    try:
        assert Membership("shop", -1, "").encoded() == consumer.consumer_group_metadata()
    finally:
        consumer.close()


def test_a_worker_keeps_the_name_of_its_transactions(tmp_path: Path) -> None:
    """In its data folder, which nobody shares with it."""
    settings = BrokerSettings(app="shop")
    name = transactional_id(settings, tmp_path / "one")
    assert name.startswith("shop-worker-")
    assert transactional_id(settings, tmp_path / "one") == name
    assert transactional_id(settings, tmp_path / "another") != name


class Group:
    """A consumer group of real members on a real broker, and the changelog that they write."""

    def __init__(self, address: str, name: str) -> None:
        self.settings = BrokerSettings(addresses=address, app=name, partitions=1)
        create_topics(self.settings)
        self._members: list[AIOKafkaConsumer] = []
        self._outboxes: list[TransactionalOutbox] = []

    async def join(self) -> Membership:
        """One more member; as what it has joined."""
        consumer = AIOKafkaConsumer(
            "clicks",
            bootstrap_servers=self.settings.addresses,
            group_id=self.settings.group,
            enable_auto_commit=False,
            heartbeat_interval_ms=100,
        )
        await consumer.start()
        self._members.append(consumer)
        coordinator = consumer._coordinator
        return Membership(self.settings.group, coordinator.generation, coordinator.member_id)

    async def outbox(self, name: str) -> TransactionalOutbox:
        """The changelog's outbox of a worker of this name."""
        outbox = TransactionalOutbox(self.settings, f"{self.settings.group}-worker-{name}")
        self._outboxes.append(outbox)
        await outbox.start()
        return outbox

    def rows(self) -> list[tuple[bytes, bytes]]:
        """What the changelog holds for who reads what was committed."""
        return [
            (message.key(), message.value())
            for message in read_topic(self.settings.addresses, self.settings.changelog, 1)
        ]

    async def close(self) -> None:
        for outbox in self._outboxes:
            outbox.close(1.0)
        for consumer in self._members:
            await consumer.stop()


@pytest.fixture
async def group(own_kafka: Broker, request: Any) -> AsyncIterator[Group]:
    """An empty group of the test's own name."""
    made = Group(own_kafka.address, request.node.name.replace("_", "-")[:60])
    yield made
    await made.close()


async def write(outbox: TransactionalOutbox, group: Group, value: bytes) -> None:
    """A row, sent and confirmed, and not committed."""
    await outbox.begin()
    outbox.send(group.settings.changelog, b"user", value, 0)
    await outbox.confirmed(outbox.cut())


async def test_rows_and_offsets_of_a_member_count_together(group: Group) -> None:
    """And are there for the next owner, marker included."""
    membership, outbox = await group.join(), await group.outbox("one")
    await write(outbox, group, b"row")
    assert await outbox.commit({PLACE: (7, "id")}, membership)
    assert group.rows() == [(b"user", b"row")]
    ends = await SettledEnds(group.settings, 10.0).of([PLACE], [(group.settings.changelog, 0)])
    assert ends == {(group.settings.changelog, 0): 2}


async def test_rows_of_an_earlier_generation_never_happened(group: Group) -> None:
    """Of a member whose partitions another one got meanwhile; no clock is asked."""
    before, outbox = await group.join(), await group.outbox("one")
    await write(outbox, group, b"old")
    after = await group.join()
    assert after.generation > before.generation
    assert not await outbox.commit({PLACE: (7, "")}, before)
    assert group.rows() == []
    other = await group.outbox("other")
    await write(other, group, b"new")
    assert await other.commit({PLACE: (7, "")}, after)
    await write(outbox, group, b"older still")
    assert not await outbox.commit({PLACE: (8, "")}, before)
    assert group.rows() == [(b"user", b"new")]


async def test_who_gets_partitions_waits_for_what_an_earlier_owner_may_still_commit(group: Group) -> None:
    """Offsets that the group took before it went on, in a transaction whose end is still open."""
    before, outbox = await group.join(), await group.outbox("one")
    await write(outbox, group, b"row")
    # The first half of `commit`; then it stands still.
    outbox._producer.send_offsets_to_transaction([TopicPartition(*PLACE, 7)], before.encoded(), 10.0)
    await group.join()
    asked = asyncio.ensure_future(SettledEnds(group.settings, 30.0).of([PLACE], [(group.settings.changelog, 0)]))
    done, _ = await asyncio.wait({asked}, timeout=1.0)
    assert not done
    await asyncio.to_thread(outbox._producer.commit_transaction, 10.0)
    (end,) = (await asked).values()
    assert end >= 1  # the row is before it
    assert group.rows() == [(b"user", b"row")]


async def test_a_transaction_that_a_killed_worker_left_open_ends_with_its_next_start(group: Group) -> None:
    """Else others wait for as long as it may last."""
    await group.join()
    await write(await group.outbox("one"), group, b"unfinished")
    again = await group.outbox("one")
    membership = await group.join()
    await write(again, group, b"finished")
    assert await again.commit({PLACE: (1, "")}, membership)
    assert group.rows() == [(b"user", b"finished")]


async def test_of_two_workers_with_one_name_the_first_is_shut_out(group: Group) -> None:
    """With a reason: two copies of one data folder."""
    first = await group.outbox("one")
    await group.outbox("one")
    with pytest.raises(SendError, match="copies of one data folder"):
        await write(first, group, b"row")


async def test_a_call_that_librdkafka_never_returns_from_ends_the_checkpoint(group: Group) -> None:
    """As its `send_offsets_to_transaction` where the coordinator goes away at one moment of it, which no broker can be
    told to hit. The worker's next life goes on.
    """
    group.settings = replace(group.settings, session_timeout_s=1.0)
    membership, outbox = await group.join(), await group.outbox("one")
    await write(outbox, group, b"unfinished")
    answered = threading.Event()
    outbox._producer = SimpleNamespace(send_offsets_to_transaction=lambda *_: answered.wait(), flush=lambda _: 0)
    try:
        with pytest.raises(SendError, match="has not come back"):
            await outbox.commit({PLACE: (1, "")}, membership)
    finally:
        answered.set()
    again = await group.outbox("one")
    await write(again, group, b"finished")
    assert await again.commit({PLACE: (1, "")}, membership)
    assert group.rows() == [(b"user", b"finished")]


@pytest.mark.parametrize("minutes", [-5, 5])
async def test_clocks_that_differ_by_minutes_change_nothing(own_kafka: Broker, minutes: int) -> None:
    """The changelog takes a row whatever time its sender believes it is."""
    settings = BrokerSettings(addresses=own_kafka.address, app=f"clock{minutes}", partitions=1)
    create_topics(settings)
    refused: list[Any] = []
    producer = Producer({"bootstrap.servers": own_kafka.address})
    producer.produce(
        settings.changelog, b"row", b"user", 0,
        timestamp=int((time.time() + 60 * minutes) * 1000),
        on_delivery=lambda error, message: refused.append(error),
    )  # fmt: skip
    assert producer.flush(30) == 0
    assert refused == [None]
