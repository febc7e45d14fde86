"""The broker of this machine: it starts, carries messages, outlives faults as it says, and what is wrong is said."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition

from liverank.local import broker as broker_module
from liverank.local.broker import Broker, kind_of, start_broker
from liverank.local.errors import BrokerError
from liverank.local.ports import free_ports
from ranker.contracts.errors import LiverankError

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


def connects(address: str) -> bool:
    host, port = address.split(":")
    with socket.socket() as client:
        return client.connect_ex((host, int(port))) == 0


class TestContract:
    """What clients expect of a broker."""

    def test_librdkafka_reads_what_it_wrote(self, kafka: str, new_topic: NewTopic) -> None:
        """Messages that the broker confirmed come back in order through confluent-kafka."""
        topic = new_topic(kafka)
        produce(kafka, topic, b"one", b"two", b"three")
        assert read(kafka, topic, 3) == [b"one", b"two", b"three"]

    async def test_aiokafka_reads_what_it_wrote(self, kafka: str, new_topic: NewTopic) -> None:
        """aiokafka, on which Faust stands: keys and values come back at the offsets that the producer was told."""
        topic = new_topic(kafka, partitions=2)
        async with AIOKafkaProducer(bootstrap_servers=kafka, acks="all") as producer:
            sent = [
                await producer.send_and_wait(topic, f"v{i}".encode(), key=b"ada", partition=i % 2) for i in range(4)
            ]
        async with AIOKafkaConsumer(topic, bootstrap_servers=kafka, auto_offset_reset="earliest") as consumer:
            got = [await asyncio.wait_for(anext(consumer), DEADLINE_S) for _ in sent]
        assert {(m.partition, m.offset, m.value) for m in got} == {
            (m.partition, m.offset, f"v{i}".encode()) for i, m in enumerate(sent)
        }
        assert {m.key for m in got} == {b"ada"}

    def test_an_address_uses_the_running_broker(self, kafka: str, tmp_path: Path) -> None:
        """An address starts nothing: that broker is not ours to stop, and the context's end leaves it up."""
        with start_broker(kafka, tmp_path) as external:
            assert (external.kind, external.address, external.pid) == ("external", kafka, None)
            for act in (external.start, external.stop, external.kill, external.restart):
                with pytest.raises(BrokerError, match="not started here"):
                    act()
        assert connects(kafka)
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


#: A killed broker's registration bars its next start until the session ends, 9 s by default.
QUICK = {"broker.session.timeout.ms": "2000", "broker.heartbeat.interval.ms": "500"}


def test_it_keeps_its_data_over_restarts_and_kills(tmp_path: Path, new_topic: NewTopic) -> None:
    """What was confirmed is read again after restart(), after kill -9 and start(), and by a later context.

    The address stays the same but for the later context's, and the process is another each time. stop and kill of a
    stopped broker, and start of a running one, change nothing.
    """
    with start_broker("kafka", tmp_path, settings=QUICK, heap_mb=256) as broker:
        address, first = broker.address, broker.pid
        topic = new_topic(address)
        produce(address, topic, b"before the restart")
        broker.restart()
        produce(address, topic, b"before the kill")
        second = broker.pid
        broker.start()
        assert broker.pid == second
        broker.kill()
        broker.kill()
        assert not connects(address)
        assert (broker.running, broker.pid) == (False, None)
        broker.start()
        assert broker.address == address
        assert len({first, second, broker.pid}) == 3
        assert read(address, topic, 2) == [b"before the restart", b"before the kill"]
        broker.stop()
        broker.stop()
    assert not connects(address)
    with start_broker("kafka", tmp_path, settings=QUICK, heap_mb=256) as later:
        assert read(later.address, topic, 2) == [b"before the restart", b"before the kill"]


async def test_it_starts_inside_a_running_loop_and_outlives_the_thread_that_started_it(tmp_path: Path) -> None:
    """Readiness is awaited on a loop of its own. And the kernel ties a child to a thread: the one that starts brokers
    must not be an executor's that soon ends."""
    started: list[Broker] = []
    context = start_broker("kafka", tmp_path, heap_mb=256)
    thread = threading.Thread(target=lambda: started.append(context.__enter__()))
    thread.start()
    thread.join()
    try:
        assert started[0]._process is not None
        with pytest.raises(subprocess.TimeoutExpired):
            started[0]._process.wait(0.5)
    finally:
        context.__exit__(None, None, None)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ties a process to its parent")
def test_it_dies_with_a_killed_parent(tmp_path: Path) -> None:
    """kill -9 of the process that started a broker ends the broker too."""
    script = (
        "import sys; from pathlib import Path; from liverank.local.broker import start_broker\n"
        "with start_broker('kafka', Path(sys.argv[1])) as broker: print(broker.address, flush=True); input()"
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


def test_a_taken_port_is_tried_again_elsewhere(kafka: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where another broker took the port first, its answers are not mistaken for ours, and another is tried."""
    taken, free = int(kafka.split(":")[1]), free_ports(1)[0]
    picks = iter([[taken], [free]])
    monkeypatch.setattr(broker_module, "free_ports", lambda count: next(picks))
    with start_broker("kafka", tmp_path, heap_mb=256) as broker:
        assert broker.address == f"127.0.0.1:{free}"


def test_a_given_port_that_is_taken_is_refused(kafka: str, tmp_path: Path) -> None:
    """A port that the caller names is never exchanged for another: a taken one is an error."""
    taken = int(kafka.split(":")[1])
    with (
        pytest.raises(BrokerError, match=rf"port {taken} of 127\.0\.0\.1 is taken"),
        start_broker("kafka", tmp_path, port=taken),
    ):
        pass


def test_a_failed_start_shows_the_end_of_the_log(tmp_path: Path) -> None:
    """A broker that ends while it starts is an error at once, not at the deadline, with its own last words."""
    started = time.monotonic()
    with (
        pytest.raises(BrokerError, match=r"(?s)ended while it started.*heap"),
        start_broker("kafka", tmp_path, heap_mb=1, deadline_s=120),
    ):
        pass
    assert time.monotonic() - started < 60


def test_any_folder_will_do(tmp_path: Path, new_topic: NewTopic) -> None:
    """Spaces, other scripts and signs of its own in the path: the data lies there, and a later start finds it. A comma
    Kafka cannot have, and says so."""
    folder, before = tmp_path / "josé 物 🛒 \\u0041", sorted(tmp_path.parent.iterdir())
    with start_broker("kafka", folder, heap_mb=256) as broker:
        topic = new_topic(broker.address)
        produce(broker.address, topic, b"kept")
    with start_broker("kafka", folder, heap_mb=256) as broker:
        assert read(broker.address, topic, 1) == [b"kept"]
    assert (folder / "kafka" / "meta.properties").exists()
    assert list(tmp_path.iterdir()) == [folder] and sorted(tmp_path.parent.iterdir()) == before
    with pytest.raises(BrokerError, match="give a folder without one"), start_broker("kafka", tmp_path / "a,b"):
        pass


def test_a_folder_is_one_brokers_own(tmp_path: Path) -> None:
    """A second one is told who has it, before it reads or writes anything there; the first goes on."""
    with start_broker("kafka", tmp_path, heap_mb=256) as broker:
        properties = (tmp_path / "server.properties").read_bytes()
        with (
            pytest.raises(LiverankError, match=rf"is in use by the broker of the process {os.getpid()}: another needs"),
            start_broker("kafka", tmp_path, heap_mb=256),
        ):
            pass
        assert (tmp_path / "server.properties").read_bytes() == properties
        assert broker.running


def test_in_the_foreground(tmp_path: Path) -> None:
    """`liverank broker` prints the address of a given port; SIGTERM ends it and the broker with exit status 0."""
    port = free_ports(1)[0]
    argv = [sys.executable, "-m", "liverank", "broker", "--port", str(port), "--data", str(tmp_path)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert f"Apache Kafka at 127.0.0.1:{port}" in process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_S) == 0
    assert not connects(f"127.0.0.1:{port}")


class TestChoice:
    """What each choice means, and what is said where it cannot be had."""

    @pytest.mark.parametrize(
        "choice", ["redpanda", "", "localhost", "localhost:", "a:1,b", "KAFKA", "embedded", "auto"]
    )
    def test_an_unknown_choice_names_the_valid_ones(self, choice: str, tmp_path: Path) -> None:
        """The error repeats what was given and lists an address and kafka."""
        with pytest.raises(BrokerError) as raised, start_broker(choice, tmp_path):
            pass
        message = str(raised.value)
        assert repr(choice) in message
        assert all(valid in message for valid in ("'localhost:9092'", "'kafka'"))

    @pytest.mark.parametrize("choice", ["localhost:9092", "kafka-1.example.org:9092,kafka-2:9093", "[::1]:9092"])
    def test_addresses(self, choice: str) -> None:
        """Names, several addresses and IPv6 are addresses."""
        assert kind_of(choice) == "external"

    def test_an_address_without_a_broker(self, tmp_path: Path) -> None:
        """An address where nothing listens is an error that says so and what else would be valid."""
        address = f"127.0.0.1:{free_ports(1)[0]}"
        with (
            pytest.raises(BrokerError, match=f"no Kafka broker answers at '{address}'; valid are"),
            start_broker(address, tmp_path, deadline_s=0.5),
        ):
            pass
