"""Brokers for the tests: Apache Kafka and the embedded one, Apache Kafka anew for each file of tests."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from liverank.local.broker import KAFKA_VERSION, Broker, BrokerError, start_broker

NewTopicFactory = Callable[..., str]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test that asks for Apache Kafka, so that `-m "not kafka"` leaves out all of them."""
    for item in items:
        if "kafka" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.kafka)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many of the tests ran on Apache Kafka, since a skipped broker must not look like a pass."""
    ran = {
        outcome: sum("kafka" in report.keywords for report in terminalreporter.stats.get(outcome, ()))
        for outcome in ("passed", "failed", "skipped")
    }
    terminalreporter.write_line(
        f"on Apache Kafka {KAFKA_VERSION}: " + ", ".join(f"{n} {what}" for what, n in ran.items())
    )


def _started(choice: str, data_dir: Path) -> Iterator[Broker]:
    with ExitStack() as stack:
        try:
            broker = stack.enter_context(start_broker(choice, data_dir))
        except BrokerError as error:
            # On CI a missing broker must not look like a pass.
            (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"no broker: {error}")
        yield broker


@pytest.fixture(scope="module")
def kafka_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """An Apache Kafka: one started for each file of tests, which then finds no topics but its own.

    The environment's LIVERANK_TEST_BROKER names one to use instead; it should be empty.
    """
    yield from _started(os.environ.get("LIVERANK_TEST_BROKER") or "kafka", tmp_path_factory.mktemp("kafka"))


@pytest.fixture(scope="module")
def kafka(kafka_broker: Broker) -> str:
    """Its address."""
    return kafka_broker.address


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an embedded broker. No claim about delivery, compaction or speed is made on it."""
    for broker in _started("embedded", tmp_path_factory.mktemp("embedded")):
        yield broker.address


@pytest.fixture(params=[pytest.param("kafka", marks=pytest.mark.kafka), "embedded"])
def broker(request: pytest.FixtureRequest) -> str:
    """The address of either broker: the tests that use it are the contract that both fulfil."""
    address: str = request.getfixturevalue(request.param)
    return address


@pytest.fixture
def new_topic() -> NewTopicFactory:
    """Creates a topic with a name of its own: `new_topic(address, partitions=4, config={"retention.ms": "1"})`."""

    def create(address: str, *, partitions: int = 1, config: dict[str, str] | None = None, prefix: str = "test") -> str:
        name = f"{prefix}-{uuid.uuid4().hex[:12]}"
        topic = NewTopic(name, num_partitions=partitions, replication_factor=1, config=config or {})
        admin = AdminClient({"bootstrap.servers": address})
        admin.create_topics([topic], operation_timeout=30)[name].result(30)
        return name

    return create
