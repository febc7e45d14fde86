"""One Apache Kafka for all tests that do not kill it, emptied for each file of tests."""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

from liverank.local.broker import Broker, start_broker
from liverank.local.jars import KAFKA_VERSION
from tests.support.waiting import eventually

NewTopicFactory = Callable[..., str]
_ANSWER_S = 30.0


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many of the tests ran on Apache Kafka."""
    ran = {
        outcome: sum("kafka" in report.keywords for report in terminalreporter.stats.get(outcome, ()))
        for outcome in ("passed", "failed", "skipped")
    }
    terminalreporter.write_line(
        f"on Apache Kafka {KAFKA_VERSION}: " + ", ".join(f"{n} {what}" for what, n in ran.items())
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what asks for Apache Kafka, so that `-m "not kafka"` leaves it out, and all fault tests as slow."""
    for item in items:
        if {"kafka", "own_kafka"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.kafka)
        if "faults" in item.path.parts:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True)
def _log_levels() -> Iterator[None]:
    """A command that a test runs in this process sets levels of libraries' logs; the next test finds them as before."""
    levels = {logger: logger.level for logger in _loggers()}
    yield
    for logger in _loggers():
        logger.setLevel(levels.get(logger, logging.NOTSET))


def _loggers() -> list[logging.Logger]:
    return [found for found in logging.root.manager.loggerDict.values() if isinstance(found, logging.Logger)]


@pytest.fixture(scope="session")
def session_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """An Apache Kafka for the whole session; the environment's LIVERANK_TEST_BROKER names one to use instead."""
    choice = os.environ.get("LIVERANK_TEST_BROKER") or "kafka"
    with start_broker(choice, tmp_path_factory.mktemp("kafka")) as broker:
        yield broker


@pytest.fixture(scope="module")
def kafka(session_kafka: Broker) -> Iterator[str]:
    """Its address. Each file of tests finds no topics but its own, and no group."""
    yield session_kafka.address
    _empty(session_kafka.address)


@pytest.fixture(scope="module")
def own_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """An Apache Kafka for one file of tests, which may kill it."""
    with start_broker("kafka", tmp_path_factory.mktemp("own-kafka")) as broker:
        yield broker


def _empty(address: str) -> None:
    """Remove every topic and group. A killed member keeps its group for the session timeout: such a one stays."""
    admin = AdminClient({"bootstrap.servers": address})

    def topics() -> list[str]:
        return [name for name in admin.list_topics(timeout=_ANSWER_S).topics if not name.startswith("__")]

    names = topics()
    if names:
        for gone in admin.delete_topics(names, operation_timeout=_ANSWER_S).values():
            gone.result(_ANSWER_S)
    eventually("the topics are gone", lambda: not topics())
    groups = [group.group_id for group in admin.list_consumer_groups().result(_ANSWER_S).valid]
    if groups:
        for gone in admin.delete_consumer_groups(groups).values():
            with suppress(KafkaException):
                gone.result(_ANSWER_S)


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
