"""Several Apache Kafka nodes on this machine, or one, each with a listener for every line that leads to it.

A line is a TCP connection that somebody passes on, and may cut: what comes by a listener of a line is told the line's
own ports, so that a client that begins there stays there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

from msgspec import Struct

from liverank.local.broker import Broker
from liverank.local.kafka import kafka_program, new_cluster_id
from liverank.local.ports import free_ports

_HOST = "127.0.0.1"
_STARTS_WITHIN_S = 300.0  # whatever else the machine has to do
_REPLICATED = ("offsets.topic", "transaction.state.log", "share.coordinator.state.topic")


class NodePorts(Struct, frozen=True):
    """Where a node listens: for clients, for other nodes' controllers, and for each line (port, port it is told)."""

    clients: int
    controller: int
    lines: tuple[tuple[int, int], ...] = ()


def free_node_ports(nodes: int, lines: int) -> list[NodePorts]:
    """Ports that nobody listens on now, for so many nodes with so many lines to each.

    Raises:
        BrokerError: there are not so many.
    """
    each = 2 + 2 * lines
    free = free_ports(nodes * each)
    parts = [free[start : start + each] for start in range(0, len(free), each)]
    return [NodePorts(part[0], part[1], tuple(zip(part[2::2], part[3::2], strict=True))) for part in parts]


@contextmanager
def start_cluster(data_dir: Path, nodes: Sequence[NodePorts], heap_mb: int = 384) -> Iterator[list[Broker]]:
    """Nodes that answer, one broker each, for as long as the context lasts.

    Args:
        data_dir: holds a folder for each node.
        nodes: where each listens.
        heap_mb: the largest Java heap of each.

    Raises:
        BrokerError: what a node needs is missing, or it does not start or answer.
    """
    cluster_id, brokers = new_cluster_id(), []
    for number, ports in enumerate(nodes, 1):
        folder = data_dir.resolve() / f"node-{number}"
        folder.mkdir(parents=True)
        program = kafka_program(folder, ports.clients, _settings(number, nodes), heap_mb, cluster_id)
        brokers.append(Broker(program.address, "kafka", program, _STARTS_WITHIN_S))
    with ExitStack() as stack:
        for broker in brokers:
            stack.callback(broker.kill)  # nothing is kept, and of the last ones none would answer
        start_all(brokers)
        yield brokers


def start_all(brokers: Sequence[Broker]) -> None:
    """Start the nodes of a cluster side by side: none of several answers before most are there.

    Raises:
        BrokerError: one does not start or answer.
    """
    with ThreadPoolExecutor(len(brokers)) as starts:
        list(starts.map(Broker.start, brokers))


def _settings(number: int, nodes: Sequence[NodePorts]) -> dict[str, str]:
    """What one node has in its server.properties beside the template's."""
    own, copies = nodes[number - 1], str(min(3, len(nodes)))
    lines = {f"LINE{at}": ports for at, ports in enumerate(own.lines)}
    listens = {"PLAINTEXT": own.clients} | {name: port for name, (port, _) in lines.items()}
    told = {"PLAINTEXT": own.clients} | {name: port for name, (_, port) in lines.items()}
    names = ("CONTROLLER", *listens)
    return {
        "node.id": str(number),
        "controller.quorum.voters": ",".join(f"{at}@{_HOST}:{one.controller}" for at, one in enumerate(nodes, 1)),
        "listeners": _addresses(listens | {"CONTROLLER": own.controller}),
        "advertised.listeners": _addresses(told),
        "listener.security.protocol.map": ",".join(f"{name}:PLAINTEXT" for name in names),
        **{f"{topic}.replication.factor": copies for topic in _REPLICATED},
        **{f"{topic}.min.isr": "2" if copies == "3" else "1" for topic in _REPLICATED[1:]},
    }


def _addresses(ports: dict[str, int]) -> str:
    return ",".join(f"{name}://{_HOST}:{port}" for name, port in ports.items())
