"""Topics are created once and checked in words, on a real broker."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, NewPartitions

from liverank.local.broker import Broker
from ranker.contracts.topics import USER_INPUTS
from streams.kafka.admin import TopicError, create_topics, topic_layouts
from streams.kafka.checks import check_topics, examine
from streams.settings import BrokerSettings
from tests.support.waiting import eventually


def test_creating_twice_creates_once(kafka: str) -> None:
    """The second call leaves everything as it is."""
    settings = BrokerSettings(addresses=kafka, app=f"topics-{uuid.uuid4().hex[:6]}")
    assert settings.changelog in create_topics(settings)
    assert create_topics(settings) == []
    eventually("the broker tells of them, and nothing is wrong", lambda: examine(settings) == [])


def test_partitions_and_policies_are_what_the_settings_say(own_kafka: Broker) -> None:
    """Every topic gets its number of partitions and its clean-up policy; the broker keeps both."""
    settings = BrokerSettings(addresses=own_kafka.address, app="made", partitions=2)
    create_topics(settings)
    client = AdminClient({"bootstrap.servers": own_kafka.address})
    listed = client.list_topics(timeout=10).topics
    for topic in topic_layouts(settings):
        assert len(listed[topic.name].partitions) == topic.partitions, topic.name
    assert {len(listed[name].partitions) for name in (*USER_INPUTS, "items")} == {2}
    assert {topic.name for topic in topic_layouts(settings) if topic.policy == "compact"} == {
        "items", "item-vectors", "users", "model-updates", "made-rows-changelog",
    }  # fmt: skip


def test_what_is_wrong_is_said_in_words(own_kafka: Broker) -> None:
    """A number of partitions that parts a user's inputs, and a policy that would lose state."""
    settings = BrokerSettings(addresses=own_kafka.address, app="made", partitions=2)
    create_topics(settings)
    client = AdminClient({"bootstrap.servers": own_kafka.address})
    client.create_partitions([NewPartitions("clicks", 5)])["clicks"].result(30)
    (problem,) = eventually("the broker tells of the new partitions", lambda: check_topics(settings))
    assert "the topic clicks has 5 partitions and must have 2" in problem
    (missing,) = [
        p for p in check_topics(BrokerSettings(addresses=own_kafka.address, app="other", partitions=2)) if "exist" in p
    ]
    assert "other-rows-changelog does not exist" in missing


def test_more_copies_than_brokers_are_refused_in_a_sentence(own_kafka: Broker) -> None:
    """By the first topic that cannot have them; nothing else says how many there are."""
    settings = BrokerSettings(addresses=own_kafka.address, app="copied")
    with pytest.raises(TopicError, match=r"the topic copied-rows-changelog cannot be created: .*replication factor"):
        create_topics(settings, replication=3)


def test_a_broker_that_does_not_answer_is_named(tmp_path: Path) -> None:
    """By its address."""
    with pytest.raises(TopicError, match=r"127\.0\.0\.1:1"):
        check_topics(BrokerSettings(addresses="127.0.0.1:1"))
