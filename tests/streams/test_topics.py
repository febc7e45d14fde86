"""Topics are created once and checked in words, on a real broker."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, NewPartitions
from rig import eventually

from liverank.brokers import start_broker
from ranker.settings import Settings
from streams import topics
from streams.topics import TopicError


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


def test_a_broker_that_does_not_answer_is_named(tmp_path: Path) -> None:
    """By its address."""
    with pytest.raises(TopicError, match=r"127\.0\.0\.1:1"):
        topics.check(Settings(brokers="127.0.0.1:1"))
