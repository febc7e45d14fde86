"""What is sent, what is confirmed, and what a dead letter holds, on real brokers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from liverank.local.broker import start_broker
from ranker.contracts.errors import InvalidRecord
from ranker.contracts.inputs import Position
from ranker.contracts.records import DeadLetter
from streams.kafka.outbox import Outbox, SendError
from streams.pipeline import dead_letters
from streams.pipeline.dead_letters import VALUE_LIMIT, DeadLetters
from streams.settings import BrokerSettings
from streams.telemetry.metrics import Metrics
from tests.support.installation import read_topic


def read(address: str, topic: str, partitions: int = 1) -> list[tuple[int, bytes | None, bytes | None]]:
    """Everything in a topic: partition, key, value."""
    return [(found.partition(), found.key(), found.value()) for found in read_topic(address, topic, partitions)]


async def test_confirmed_means_the_broker_has_it(kafka: str, new_topic: Callable[..., str]) -> None:
    """After the wait every record is readable, and each callback knew its offset."""
    topic = new_topic(kafka)
    outbox, offsets = Outbox(BrokerSettings(addresses=kafka)), []
    for number in range(50):
        outbox.send(topic, b"k", b"%d" % number, 0, offsets.append)
    await outbox.confirmed(outbox.cut())
    assert offsets == list(range(50))
    assert [value for _, _, value in read(kafka, topic)] == [b"%d" % number for number in range(50)]


async def test_keys_go_where_java_puts_them(kafka: str, new_topic: Callable[..., str]) -> None:
    """librdkafka's own default would part a user's rankings from those of other producers."""
    from streams.kafka.connection import partition_of

    topic = new_topic(kafka, partitions=4)
    outbox = Outbox(BrokerSettings(addresses=kafka))
    keys = [f"user-{number}".encode() for number in range(40)] + ["пользователь".encode()]
    for key in keys:
        outbox.send(topic, key, b"")
    await outbox.confirmed(outbox.cut())
    assert {(key, partition) for partition, key, _ in read(kafka, topic, 4)} == {
        (key, partition_of(key, 4)) for key in keys
    }


async def test_a_cut_does_not_wait_for_what_is_sent_later(tmp_path: Path) -> None:
    """Under load something is always on its way; a checkpoint waits for its own records."""
    with start_broker("kafka", tmp_path, heap_mb=256) as broker:
        outbox = Outbox(BrokerSettings(addresses=broker.address))
        outbox.send("later", b"k", b"v")  # the topic does not exist: it stays unconfirmed
        later = outbox.cut()
        await asyncio.wait_for(outbox.confirmed(outbox.cut()), 5)
        assert later.waiting == 1


async def test_a_record_that_is_not_delivered_is_an_error(kafka: str) -> None:
    """One that is too large for any broker is refused at once, and `confirmed` raises."""
    outbox = Outbox(BrokerSettings(addresses=kafka))
    outbox.send("clicks", b"k", b"x" * (9 << 20))
    with pytest.raises(SendError, match="clicks"):
        await outbox.confirmed(outbox.cut())


async def test_a_record_too_large_for_its_topic_has_another_in_its_place(
    kafka: str, new_topic: Callable[..., str]
) -> None:
    """Or none, as the caller says; what goes out beside it is not affected, and what counts is confirmed."""
    topic, other = new_topic(kafka, config={"max.message.bytes": str(1 << 20)}), new_topic(kafka)
    outbox = Outbox(BrokerSettings(addresses=kafka))
    for number in range(20):
        outbox.send(topic, b"k", b"%d" % number)
        if number in (5, 15):
            outbox.send(topic, b"k", b"x" * (2 << 20), instead=lambda: (other, b"k", b"too large"))
    outbox.send(topic, b"k", b"x" * (9 << 20), instead=lambda: None)
    await outbox.confirmed(outbox.cut())
    assert sorted(int(value or b"") for _, _, value in read(kafka, topic)) == list(range(20))
    assert [value for _, _, value in read(kafka, other)] == [b"too large"] * 2


async def test_a_topic_that_takes_too_little_is_named(kafka: str, new_topic: Callable[..., str]) -> None:
    """One that no worker starts with ends its sender, whatever the record: the setting is said, and what is right."""
    topic = new_topic(kafka, config={"max.message.bytes": "1000"})
    outbox = Outbox(BrokerSettings(addresses=kafka))
    outbox.send(topic, b"k", b"x" * 2000, instead=lambda: None)
    with pytest.raises(SendError, match=rf"{topic} .* max\.message\.bytes of that topic, which should be 8388608"):
        await outbox.confirmed(outbox.cut())


async def test_a_dead_letter_holds_what_was_wrong(
    kafka: str, new_topic: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reason, error, place, key and bytes; of a large value the first 64 KiB."""
    topic = new_topic(kafka)
    monkeypatch.setattr(dead_letters, "DEAD_LETTERS", topic)
    outbox, metrics = Outbox(BrokerSettings(addresses=kafka)), Metrics()
    letters = DeadLetters(outbox, metrics)
    letters.send(Position("clicks", 3, 14, 0), b"user", b"\xff" * (VALUE_LIMIT + 1), InvalidRecord("not-json", "no"))
    letters.send(Position("views", 1, 2, 0), None, None, InvalidRecord("null-value", "empty"))
    await outbox.confirmed(outbox.cut())
    (_, key, first), (_, no_key, second) = read(kafka, topic)
    assert (key, no_key) == (b"user", None)
    assert msgspec.json.decode(first, type=DeadLetter) == DeadLetter(
        reason="not-json", error="no", topic="clicks", partition=3, offset=14, value=b"\xff" * VALUE_LIMIT
    )
    assert msgspec.json.decode(second, type=DeadLetter).value == b""
    counted = metrics.registry.get_sample_value(
        "liverank_dead_letters_total", {"topic": "clicks", "reason": "not-json"}
    )
    assert counted == 1
