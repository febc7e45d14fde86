"""Brokers: that each starts, carries messages, outlives faults as it says, and that what is missing is said."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition

from liverank.local import broker as brokers
from liverank.local.broker import Broker, BrokerError, start_broker

NewTopic = Callable[..., str]
DEADLINE_S = 30.0


def produce(address: str, topic: str, *values: bytes) -> None:
    """Send with librdkafka and wait until the broker has confirmed each."""
    producer = Producer({"bootstrap.servers": address, "acks": "all"})
    failures = []
    for value in values:
        producer.produce(topic, value, on_delivery=lambda error, _: failures.append(error) if error else None)
    assert producer.flush(DEADLINE_S) == 0
    assert failures == []


def read(address: str, topic: str, count: int) -> list[bytes]:
    """The first `count` values of a topic with one partition, or fewer when the deadline passes."""
    consumer = Consumer({"bootstrap.servers": address, "group.id": "reader", "enable.auto.commit": False})
    consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
    values: list[bytes] = []
    deadline = time.monotonic() + DEADLINE_S
    while len(values) < count and time.monotonic() < deadline:
        message = consumer.poll(0.2)
        if message is not None and message.error() is None:
            values.append(message.value())
    consumer.close()
    return values


def executable(path: Path, script: str) -> Path:
    """A shell script that stands for a program."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def connects(address: str) -> bool:
    host, port = address.split(":")
    with socket.socket() as client:
        return client.connect_ex((host, int(port))) == 0


@pytest.fixture
def no_tools(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without Java, Maven and fetched jars; returns the folder where LIVERANK_CACHE points."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("LIVERANK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class TestEveryBroker:
    """The contract of Apache Kafka and the embedded broker."""

    def test_librdkafka_reads_what_it_wrote(self, broker: str, new_topic: NewTopic) -> None:
        """Messages that the broker confirmed come back in order through confluent-kafka."""
        topic = new_topic(broker)
        produce(broker, topic, b"one", b"two", b"three")
        assert read(broker, topic, 3) == [b"one", b"two", b"three"]

    async def test_aiokafka_reads_what_it_wrote(self, broker: str, new_topic: NewTopic) -> None:
        """aiokafka, on which Faust stands: keys and values come back at the offsets that the producer was told."""
        topic = new_topic(broker, partitions=2)
        async with AIOKafkaProducer(bootstrap_servers=broker, acks="all") as producer:
            sent = [
                await producer.send_and_wait(topic, f"v{i}".encode(), key=b"ada", partition=i % 2) for i in range(4)
            ]
        async with AIOKafkaConsumer(topic, bootstrap_servers=broker, auto_offset_reset="earliest") as consumer:
            got = [await asyncio.wait_for(anext(consumer), DEADLINE_S) for _ in sent]
        assert {(m.partition, m.offset, m.value) for m in got} == {
            (m.partition, m.offset, f"v{i}".encode()) for i, m in enumerate(sent)
        }
        assert {m.key for m in got} == {b"ada"}

    def test_an_address_uses_the_running_broker(self, broker: str, tmp_path: Path) -> None:
        """An address starts nothing: that broker is not ours to stop, and the context's end leaves it up."""
        with start_broker(broker, tmp_path) as external:
            assert (external.kind, external.address, external.pid) == ("external", broker, None)
            for act in (external.start, external.stop, external.kill, external.restart):
                with pytest.raises(BrokerError, match="not started here"):
                    act()
        assert connects(broker)
        assert list(tmp_path.iterdir()) == []


def test_apache_kafka_takes_messages_of_8_mib(kafka: str, new_topic: NewTopic) -> None:
    """message.max.bytes is raised from its default of 1 MiB, for long candidate lists with features."""
    topic, value = new_topic(kafka), os.urandom(7 * 1024 * 1024)
    producer = Producer({"bootstrap.servers": kafka, "message.max.bytes": 8 * 1024 * 1024})
    errors: list[object] = []
    producer.produce(topic, value, on_delivery=lambda error, _: errors.append(error))
    producer.flush(DEADLINE_S)
    assert errors == [None]
    assert read(kafka, topic, 1) == [value]


def test_apache_kafka_creates_no_topic_by_itself(kafka: str) -> None:
    """A producer to a misspelt topic gets an error instead of a new topic."""
    producer = Producer({"bootstrap.servers": kafka, "message.timeout.ms": 3_000})
    errors: list[object] = []
    producer.produce("mispelt", b"lost", on_delivery=lambda error, _: errors.append(error))
    producer.flush(DEADLINE_S)
    assert len(errors) == 1
    assert errors[0] is not None


@pytest.mark.kafka
def test_apache_kafka_keeps_its_data_over_restarts_and_kills(
    tmp_path: Path, new_topic: NewTopic, request: pytest.FixtureRequest
) -> None:
    """What was confirmed is read again after restart(), after kill -9 and start(), and by a later context.

    The address stays the same but for the later context's, and the process is another each time.
    """
    request.getfixturevalue("kafka")  # fails on CI where there is no Apache Kafka at all
    try:
        brokers.choose("kafka")
    except BrokerError as missing:
        pytest.skip(f"LIVERANK_TEST_BROKER is not ours to kill, and {missing}")
    # A killed broker's registration bars its next start until the session ends, 9 s by default.
    quick = {"broker.session.timeout.ms": "2000", "broker.heartbeat.interval.ms": "500"}
    with start_broker("kafka", tmp_path, settings=quick, heap_mb=256) as broker:
        address, first = broker.address, broker.pid
        topic = new_topic(address)
        produce(address, topic, b"before the restart")
        broker.restart()
        produce(address, topic, b"before the kill")
        second = broker.pid
        broker.kill()
        assert not connects(address)
        assert broker.pid is None
        broker.start()
        assert broker.address == address
        assert len({first, second, broker.pid}) == 3
        assert read(address, topic, 2) == [b"before the restart", b"before the kill"]
    assert not connects(address)
    with start_broker("kafka", tmp_path, settings=quick, heap_mb=256) as later:
        assert read(later.address, topic, 2) == [b"before the restart", b"before the kill"]


class TestEmbedded:
    """What holds for every started broker, tried on the one that starts at once."""

    def test_restart_and_kill(self, embedded: str, tmp_path: Path) -> None:
        """stop, kill, start and restart act on one address; stop and kill of a stopped broker change nothing."""
        with start_broker("embedded", tmp_path) as broker:
            address, pids = broker.address, [broker.pid]
            broker.kill()
            broker.kill()
            assert (broker.running, broker.pid, connects(address)) == (False, None, False)
            broker.start()
            pids.append(broker.pid)
            broker.start()
            assert broker.pid == pids[-1]
            broker.restart()
            pids.append(broker.pid)
            assert len(set(pids)) == 3
            assert broker.address == address
            assert connects(address)
            broker.stop()
            broker.stop()
        assert not connects(address)

    async def test_it_starts_inside_a_running_loop(self, embedded: str, tmp_path: Path) -> None:
        """Readiness is awaited on a loop of its own, so that async code can start a broker too."""
        with start_broker("embedded", tmp_path) as broker:
            assert broker.running

    def test_it_outlives_the_thread_that_started_it(self, embedded: str, tmp_path: Path) -> None:
        """The kernel ties a child to a thread: the one that starts brokers must not be an executor's that soon ends."""
        started: list[Broker] = []
        context = start_broker("embedded", tmp_path)
        thread = threading.Thread(target=lambda: started.append(context.__enter__()))
        thread.start()
        thread.join()
        try:
            with pytest.raises(subprocess.TimeoutExpired):
                assert started[0]._process is not None
                started[0]._process.wait(0.5)
        finally:
            context.__exit__(None, None, None)

    @pytest.mark.skipif(sys.platform != "linux", reason="only Linux ties a process to its parent")
    def test_it_dies_with_a_killed_parent(self, embedded: str, tmp_path: Path) -> None:
        """kill -9 of the process that started a broker ends the broker too."""
        script = (
            "import sys; from pathlib import Path; from liverank.local.broker import start_broker\n"
            "with start_broker('embedded', Path(sys.argv[1])) as broker: print(broker.address, flush=True); input()"
        )
        argv = [sys.executable, "-c", script, str(tmp_path)]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
            assert parent.stdout is not None
            address = parent.stdout.readline().strip()
            assert connects(address)
            parent.kill()
        deadline = time.monotonic() + DEADLINE_S
        while connects(address):
            assert time.monotonic() < deadline, "the broker outlived its parent"
            time.sleep(0.02)

    def test_a_taken_port_is_tried_again_elsewhere(
        self, embedded: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where another broker took the port first, its answers are not mistaken for ours, and another is tried."""
        taken, free = int(embedded.split(":")[1]), brokers._free_ports(1)[0]
        picks = iter([[taken], [free]])
        monkeypatch.setattr(brokers, "_free_ports", lambda count: next(picks))
        with start_broker("embedded", tmp_path) as broker:
            assert broker.address == f"127.0.0.1:{free}"

    def test_a_given_port_is_used_or_refused(self, embedded: str, tmp_path: Path) -> None:
        """A port that the caller names is never exchanged for another: a taken one is an error."""
        free = brokers._free_ports(1)[0]
        with start_broker("embedded", tmp_path, port=free) as broker:
            assert broker.address == f"127.0.0.1:{free}"
            with (
                pytest.raises(BrokerError, match=rf"port {free} of 127\.0\.0\.1 is taken"),
                start_broker("embedded", tmp_path / "second", port=free),
            ):
                pass

    def test_a_failed_start_shows_the_end_of_the_log(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A broker that ends while it starts is an error at once, not at the deadline, with its own last words."""
        broken = executable(tmp_path / "tansu", "echo 'the disk is made of cheese'; exit 3")
        monkeypatch.setenv("CALF_TANSU_BIN", str(broken))
        started = time.monotonic()
        with (
            pytest.raises(BrokerError, match=r"(?s)ended while it started.*the disk is made of cheese"),
            start_broker("embedded", tmp_path, deadline_s=60),
        ):
            pass
        assert time.monotonic() - started < 30

    def test_in_the_foreground(self, embedded: str, tmp_path: Path) -> None:
        """`python -m liverank.local.broker` prints the address; SIGTERM ends it and the broker with exit status 0."""
        port = brokers._free_ports(1)[0]
        argv = [sys.executable, "-m", "liverank.local.broker", "embedded", "--port", str(port), "--data", str(tmp_path)]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert f"embedded broker at 127.0.0.1:{port}" in process.stdout.readline()
            process.send_signal(signal.SIGTERM)
            assert process.wait(DEADLINE_S) == 0
        assert not connects(f"127.0.0.1:{port}")


class TestChoice:
    """What each choice means, and what is said where it cannot be had."""

    @pytest.mark.parametrize("choice", ["redpanda", "", "localhost", "localhost:", "a:1,b", "KAFKA"])
    def test_an_unknown_choice_names_the_valid_ones(self, choice: str, tmp_path: Path) -> None:
        """The error repeats what was given and lists an address, kafka, embedded and auto."""
        with pytest.raises(BrokerError) as raised, start_broker(choice, tmp_path):
            pass
        message = str(raised.value)
        assert repr(choice) in message
        assert all(valid in message for valid in ("'localhost:9092'", "'kafka'", "'embedded'", "'auto'"))

    @pytest.mark.parametrize("choice", ["localhost:9092", "kafka-1.example.org:9092,kafka-2:9093", "[::1]:9092"])
    def test_addresses(self, choice: str) -> None:
        """Names, several addresses and IPv6 are addresses."""
        assert brokers.choose(choice) == "external"

    def test_an_address_without_a_broker(self, tmp_path: Path) -> None:
        """An address where nothing listens is an error that says so and what else would be valid."""
        address = f"127.0.0.1:{brokers._free_ports(1)[0]}"
        with (
            pytest.raises(BrokerError, match=f"no Kafka broker answers at '{address}'; valid are"),
            start_broker(address, tmp_path, deadline_s=0.5),
        ):
            pass

    def test_kafka_without_java(self, no_tools: Path, tmp_path: Path) -> None:
        """Apache Kafka asked for by name is never replaced: without Java it is an error."""
        with pytest.raises(BrokerError, match="needs Java 17 or later"), start_broker("kafka", tmp_path):
            pass

    def test_kafka_with_an_old_java(self, no_tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Java 11 is found in JAVA_HOME and refused with its version."""
        executable(tmp_path / "java-11" / "bin" / "java", "echo 'openjdk version \"11.0.2\" 2019-01-15' >&2")
        monkeypatch.setenv("JAVA_HOME", str(tmp_path / "java-11"))
        with pytest.raises(BrokerError, match=r"Java 17 or later, and .*bin/java is version 11"):
            brokers.choose("kafka")

    def test_maven_is_needed_only_until_the_jars_are_there(
        self, no_tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Java alone is an error that names Maven, and enough once the cache holds the jars."""
        java = executable(tmp_path / "bin" / "java", "echo 'openjdk version \"21\" 2023-09-19' >&2")
        monkeypatch.setenv("PATH", str(java.parent))
        with pytest.raises(BrokerError, match="no mvn on PATH"):
            brokers.choose("kafka")
        (no_tools / f"kafka-{brokers.KAFKA_VERSION}").mkdir(parents=True)
        assert brokers.choose("kafka") == "kafka"

    def test_auto_falls_back_to_the_embedded_broker(self, no_tools: Path, embedded: str) -> None:
        """Without Java, auto is the embedded broker where its wheel is installed."""
        assert brokers.choose("auto") == "embedded"

    def test_auto_with_nothing_names_the_options(self, no_tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without Java and without the wheel, auto says what is missing of both and what would be valid."""
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        with pytest.raises(BrokerError, match=r"no java on PATH, and the embedded broker is not installed; valid are"):
            brokers.choose("auto")
        with pytest.raises(BrokerError, match=r"pip install 'liverank\[embedded\]'"):
            brokers.choose("embedded")

    @pytest.mark.parametrize(
        ("output", "version"),
        [
            ('openjdk version "17.0.15" 2025-04-15', 17),
            ('java version "1.8.0_392"', 8),
            ('openjdk version "24-ea" 2025-03-18', 24),
            ("The operation couldn't be completed. Unable to locate a Java Runtime.", 0),
        ],
    )
    def test_java_versions(self, output: str, version: int) -> None:
        """The forms in which Java has told its version."""
        assert brokers._java_version(output) == version


class TestFetch:
    """The jars of Apache Kafka come once, whole, or with a readable error."""

    FETCHES = (
        'for a in "$@"; do case "$a" in -DoutputDirectory=*) out="${a#*=}";; esac; done; echo run >> "$COUNT"; '
        f'/bin/mkdir -p "$out"; echo jar > "$out/kafka_2.13-{brokers.KAFKA_VERSION}.jar"'
    )

    def test_two_at_once_fetch_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Of several that start at once one runs Maven, and all get the same complete folder."""
        maven = executable(tmp_path / "bin" / "mvn", self.FETCHES)
        monkeypatch.setenv("PATH", str(maven.parent))
        monkeypatch.setenv("COUNT", str(tmp_path / "count"))
        with ThreadPoolExecutor(4) as pool:
            folders = set(pool.map(brokers.fetch_kafka, [tmp_path / "cache"] * 4))
        assert folders == {tmp_path / "cache" / f"kafka-{brokers.KAFKA_VERSION}"}
        assert (tmp_path / "count").read_text() == "run\n"
        assert [jar.name for jar in folders.pop().iterdir()] == [f"kafka_2.13-{brokers.KAFKA_VERSION}.jar"]

    def test_a_failed_maven_is_one_readable_error(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The error has Maven's last lines, nothing half-fetched stays, and the next call tries again."""
        maven = executable(tmp_path / "bin" / "mvn", "echo '[ERROR] Could not transfer artifact: no route'; exit 1")
        monkeypatch.setenv("PATH", str(maven.parent))
        with pytest.raises(
            BrokerError, match=r"(?s)Maven failed \(exit status 1\).*Could not transfer artifact: no route"
        ):
            brokers.fetch_kafka(tmp_path / "cache")
        assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".lock"]
        executable(maven, self.FETCHES)
        monkeypatch.setenv("COUNT", str(tmp_path / "count"))
        assert brokers.fetch_kafka(tmp_path / "cache").is_dir()

    def test_the_version_is_the_same_everywhere(self) -> None:
        """The version in the code is that of the pom, and the templates that go into the wheel are beside it."""
        resources = brokers._resources()
        assert f"<kafka.version>{brokers.KAFKA_VERSION}</kafka.version>" in (resources / "pom.xml").read_text()
        assert (resources / "server.properties").is_file()
        assert (resources / "log4j2.yaml").is_file()
