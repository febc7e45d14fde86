"""Several Apache Kafka nodes on this machine."""

from __future__ import annotations

from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from liverank.local.cluster import free_node_ports, start_cluster
from tests.support.installation import read_topic
from tests.support.waiting import eventually


def advertised(address: str) -> set[str]:
    """Where a client that begins at an address is sent to."""
    brokers = AdminClient({"bootstrap.servers": address}).list_topics(timeout=30).brokers.values()
    return {f"{broker.host}:{broker.port}" for broker in brokers}


def test_ports_are_told_apart() -> None:
    """Each node, and each line to it, has its own."""
    nodes = free_node_ports(3, 2)
    ports = [port for node in nodes for port in (node.clients, node.controller, *sum(node.lines, ()))]
    assert len(ports) == len(set(ports)) == 3 * (2 + 2 * 2)


@pytest.mark.slow
def test_one_of_three_may_be_killed(tmp_path: Path) -> None:
    """What is sent to three copies is confirmed while one is away, and is there when it is back. A client that begins
    at a line's port is sent to ports of that line alone."""
    nodes = free_node_ports(3, 1)
    with start_cluster(tmp_path, nodes, heap_mb=256) as brokers:
        addresses = ",".join(broker.address for broker in brokers)
        direct = {f"127.0.0.1:{node.clients}" for node in nodes}
        eventually("all have found each other", lambda: advertised(addresses) == direct)
        assert advertised(f"127.0.0.1:{nodes[1].lines[0][0]}") == {f"127.0.0.1:{node.lines[0][1]}" for node in nodes}
        topic = NewTopic("kept", 2, 3, config={"min.insync.replicas": "2"})
        admin = AdminClient({"bootstrap.servers": addresses})  # held: what it was asked ends with it
        admin.create_topics([topic])["kept"].result(90)
        sent = sent_all(addresses, 20)
        brokers[0].kill()
        sent |= sent_all(addresses, 20, since=20)
        brokers[0].start()
        sent |= sent_all(addresses, 20, since=40)
        assert {message.value() for message in read_topic(addresses, "kept", 2)} == sent
        assert all(broker.running for broker in brokers)


def sent_all(addresses: str, count: int, since: int = 0) -> set[bytes]:
    """So many records, once two brokers have each."""
    producer = Producer({"bootstrap.servers": addresses, "acks": "all", "log_level": 0})
    values = {b"%d" % number for number in range(since, since + count)}
    for value in values:
        producer.produce("kept", value, value)
    assert producer.flush(60) == 0
    return values
