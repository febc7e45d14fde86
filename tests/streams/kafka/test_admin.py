"""Topics are created once and checked in words, on a real broker."""

from __future__ import annotations

import time
import uuid
from pathlib import Path

import msgspec
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewPartitions

from liverank.local.broker import start_broker
from liverank.settings import Settings
from streams.kafka import admin as topics
from streams.kafka.admin import TopicError
from tests.support.installation import eventually


@pytest.fixture(scope="module")
def kafka_alone(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An Apache Kafka whose topics this module may spoil."""
    with start_broker("kafka", tmp_path_factory.mktemp("kafka-alone")) as broker:
        yield broker.address


def test_creating_twice_creates_once(broker: str) -> None:
    """The second call leaves everything as it is."""
    settings = Settings(brokers=broker, app=f"topics-{uuid.uuid4().hex[:6]}")
    assert topics.changelog_name(settings) in topics.create(settings)
    assert topics.create(settings) == []
    assert topics.check(settings) == []


@pytest.mark.kafka
def test_partitions_and_policies_are_what_the_settings_say(kafka_alone: str) -> None:
    """Every topic gets its number of partitions and its clean-up policy; the broker keeps both."""
    settings = Settings(brokers=kafka_alone, app="made", partitions=2)
    topics.create(settings)
    client = AdminClient({"bootstrap.servers": kafka_alone})
    listed = client.list_topics(timeout=10).topics
    for topic in topics.topics(settings):
        assert len(listed[topic.name].partitions) == topic.partitions, topic.name
    assert {len(listed[name].partitions) for name in (*topics.USER_INPUTS, "items")} == {2}
    assert {topic.name for topic in topics.topics(settings) if topic.policy == "compact"} == {
        "items", "item-vectors", "users", "model-updates", "made-rows-changelog",
    }  # fmt: skip


@pytest.mark.kafka
def test_what_is_wrong_is_said_in_words(kafka_alone: str) -> None:
    """A number of partitions that parts a user's inputs, and a policy that would lose state."""
    settings = Settings(brokers=kafka_alone, app="made", partitions=2)
    topics.create(settings)
    client = AdminClient({"bootstrap.servers": kafka_alone})
    client.create_partitions([NewPartitions("clicks", 5)])["clicks"].result(30)
    (problem,) = eventually("the broker tells of the new partitions", lambda: topics.check(settings))
    assert "the topic clicks has 5 partitions and must have 2" in problem
    (missing,) = [p for p in topics.check(Settings(brokers=kafka_alone, app="other", partitions=2)) if "exist" in p]
    assert "other-rows-changelog does not exist" in missing


@pytest.mark.kafka
def test_the_broker_refuses_a_row_that_is_older_than_a_worker_with_partitions_can_send(kafka_alone: str) -> None:
    """It was sent by one that stood still: another worker has its partitions by now."""
    settings = Settings(brokers=kafka_alone, app="fenced", session_timeout_s=6.0)
    topics.create(settings)
    outcomes = []
    producer = Producer({"bootstrap.servers": kafka_alone, "enable.idempotence": True})
    for age_s in (0, 3, 6, 0):
        stamp = int((time.time() - age_s) * 1000)
        report = lambda error, message, age_s=age_s: outcomes.append((age_s, error and error.name()))  # noqa: E731
        producer.produce(topics.changelog_name(settings), b"row", b"user", timestamp=stamp, on_delivery=report)
        producer.flush(30)
    assert outcomes == [(0, None), (3, None), (6, "INVALID_TIMESTAMP"), (0, None)]


@pytest.mark.kafka
def test_an_age_limit_beyond_the_session_timeout_is_told(kafka_alone: str) -> None:
    """As where the timeout was lowered after the topic was made."""
    settings = Settings(brokers=kafka_alone, app="lowered", session_timeout_s=30.0)
    topics.create(settings)
    lower = msgspec.structs.replace(settings, session_timeout_s=6.0)
    (problem,) = [found for found in topics.check(lower) if "timestamp" in found]
    assert "lowered-rows-changelog has message.timestamp.before.max.ms=21000" in problem
    assert "at most 4200" in problem


def test_a_broker_that_does_not_answer_is_named(tmp_path: Path) -> None:
    """By its address."""
    with pytest.raises(TopicError, match=r"127\.0\.0\.1:1"):
        topics.check(Settings(brokers="127.0.0.1:1"))
