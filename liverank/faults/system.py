"""What is disturbed: brokers, workers behind lines that can be cut, a trainer, a registry; all gone in the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from confluent_kafka import KafkaException
from msgspec import Struct

from liverank.faults.checker.records import check_acknowledged
from liverank.faults.checker.violations import Violation
from liverank.faults.link import Link
from liverank.faults.load.poison import PRICED
from liverank.faults.members import Member, Tending
from liverank.faults.small_disk import SmallDisk
from liverank.local.broker import Broker
from liverank.local.cluster import free_node_ports, start_all, start_cluster
from liverank.operate.lag import Unread, unread
from liverank.operate.reading import spans_of
from liverank.settings import Settings, changed, environment_of
from ranker.contracts.topics import EXAMPLES, ITEMS, USER_INPUTS
from ranker.starter.bundle import publish_starter
from streams.kafka.admin import create_topics
from streams.settings import BrokerSettings

WORKERS = 3
#: Between two deltas: for ever, since what a version with deltas makes of a list cannot be told offline.
NO_DELTAS_MS = 1 << 31
#: Longer than a worker takes between an erasure and a late tombstone.
_QUIET_S = 2.5
_HANDLED_S, _NOTHING_NEW_S, _ANSWER_S, _LOOK_S = 180.0, 40.0, 30.0, 0.2


class FaultSystem(Struct):
    """What runs. The workers of a run stand behind a line each; the one that joins reaches the brokers directly."""

    settings: Settings
    folder: Path
    brokers: list[Broker]
    links: list[Link]
    workers: list[Member]
    joiner: Member
    trainer: Member
    disks: list[SmallDisk]  # of the workers, where this machine lets us make some
    tending: Tending
    found: list[Violation]  # of how processes ended and started

    @property
    def members(self) -> list[Member]:
        """All that are to be there when nothing is disturbed."""
        return [*self.workers, self.trainer]

    @property
    def registry(self) -> Path:
        """The registry's folder."""
        return Path(self.settings.registry.address)

    def start_brokers(self) -> None:
        """Start all of them, at once: none of several answers before most are there."""
        start_all(self.brokers)

    def await_ready(self) -> None:
        """Wait until every worker serves. The trainer may take its time: nothing waits for it but the end."""
        for member in self.workers:
            member.await_ready()

    def unlearned(self) -> dict[str, Unread]:
        """Examples that are in no checkpoint of the trainer's."""
        topic = self.settings.topics.called(EXAMPLES)
        return unread(self.settings.broker, f"{self.settings.broker.group}-trainer", [topic])

    def take_found(self) -> list[Violation]:
        """What was found of how processes ended and started, since the last time."""
        taken = list(self.found)
        del self.found[: len(taken)]
        return taken

    def await_handled(self) -> list[Violation]:
        """Wait until every input is acknowledged; what is not, in time."""
        return _behind(self.settings.broker.group, inputs_left(self.settings.broker, _HANDLED_S))

    def await_learned(self) -> None:
        """Wait until every example is in a checkpoint of the trainer's, or checkpoints go on no more: they come with
        what is new, and the last ones may be repeats."""
        before, since = _waited(self.unlearned, 0.0), time.monotonic()
        while before and time.monotonic() - since < _NOTHING_NEW_S:
            left = _waited(self.unlearned, 1.0)
            if left != before:
                before, since = left, time.monotonic()


def ends_of(settings: BrokerSettings, topic: str) -> dict[str, int]:
    """`topic-partition` -> the offset after the last record, of the partitions of a topic of ours that have some."""
    spans, called = spans_of(settings, topic, answer_s=_ANSWER_S), settings.topics.called(topic)
    return {f"{called}-{number}": span.end for number, span in spans.items() if span.end}


def inputs_left(settings: BrokerSettings, deadline_s: float) -> dict[str, Unread]:
    """Wait until every input is acknowledged, and none comes any more: a worker puts tombstones on `users`, some after
    the erasure is acknowledged. What is left at the deadline, by `topic-partition`.
    """
    topics = [settings.topics.called(topic) for topic in (*USER_INPUTS, ITEMS)]
    before, deadline = dict[str, int](), time.monotonic() + deadline_s
    while True:
        ask = partial(unread, settings, settings.group, topics)
        left = _waited(ask, max(0.0, deadline - time.monotonic()))
        ends = {place: end for topic in USER_INPUTS for place, end in ends_of(settings, topic).items()}
        if left or ends == before:
            return left
        before = ends
        time.sleep(_QUIET_S)


def _behind(group: str, left: Mapping[str, Unread]) -> list[Violation]:
    ends = {place: one.end for place, one in left.items()}
    return list(check_acknowledged(group, ends, {place: one.committed for place, one in left.items()}))


def _waited(left: Callable[[], dict[str, Unread]], deadline_s: float) -> dict[str, Unread]:
    """What is left when nothing is, or when the time is over."""
    deadline = time.monotonic() + deadline_s
    while True:
        try:
            found = left()
        except KafkaException:  # brokers that have just come back
            found = {"all of it": Unread(1, 0)}
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(_LOOK_S)


@contextmanager
def running(folder: Path, brokers: int, session_s: float, stack: ExitStack) -> Iterator[FaultSystem]:
    """A system whose processes are ready, for as long as the context lasts.

    Args:
        folder: everything's.
        brokers: how many.
        session_s: the workers' session timeout.
        stack: ends what is started.

    Raises:
        LiverankError: something is missing or does not start.
    """
    ports = free_node_ports(brokers, WORKERS)
    nodes = stack.enter_context(start_cluster(folder / "brokers", ports))
    links = []
    for line in range(WORKERS):
        link = Link({told: port for port, told in (node.lines[line] for node in ports)})
        link.open()
        stack.callback(link.close)
        links.append(link)
    direct = ",".join(node.address for node in nodes)
    settings = _settings(direct, folder, session_s)
    create_topics(settings.broker)
    publish_starter(PRICED, settings.registry.address, settings.registry.model)
    tending, found = Tending(), list[Violation]()

    def member(name: str, command: str, addresses: str) -> Member:
        given = environment_of(changed(settings, brokers=addresses))
        made = Member(name, command, given, folder / name, found.append)
        tending.members.append(made)
        return made

    workers, disks = [], []
    for line in range(WORKERS):
        addresses = ",".join(f"127.0.0.1:{node.lines[line][1]}" for node in ports)
        workers.append(member(f"worker-{line}", "worker", addresses))
        disk = SmallDisk(workers[-1].data)
        if disk.mount():
            stack.callback(disk.unmount)
            disks.append(disk)
    stack.callback(tending.close)  # before the disks
    joiner, trainer = member("joiner", "worker", direct), member("trainer", "trainer", direct)
    system = FaultSystem(settings, folder, nodes, links, workers, joiner, trainer, disks, tending, found)
    for one in system.members:
        one.start()
    tending.start()
    system.await_ready()
    yield system


def _settings(addresses: str, folder: Path, session_s: float) -> Settings:
    return changed(
        Settings(), brokers=addresses, registry=str(folder / "registry"), app="faults", model="faults",
        session_timeout_s=session_s, metrics_port=-1, trainer_metrics_port=-1, provider="cpu", attribution_ms=5000,
        replay=256, replayed=0.2, next_item=0.0, bundle_s=15.0, delta_ms=NO_DELTAS_MS, gate_least=0, gate_margin=9.0,
    )  # fmt: skip
