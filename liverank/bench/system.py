"""What every benchmark starts: a broker, topics, a first model, and real `liverank` processes; all gone in the end."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
from confluent_kafka import Producer
from rich.console import Console

from liverank.bench.models import VersionMaker, item_vectors
from liverank.local.broker import start_broker
from liverank.local.processes import LIVERANK, Process, Program
from liverank.local.signals import handled
from liverank.measure.machine import machine
from liverank.settings import PREFIX, VARIABLES, Settings, changed, environment_of, load_settings, with_topics
from ranker.contracts.errors import LiverankError
from ranker.contracts.records import ModelUpdate
from ranker.contracts.topics import ITEM_VECTORS, MODEL_UPDATES
from ranker.rollout.stages import key_of
from streams.kafka import connection
from streams.kafka.admin import create_topics

log = logging.getLogger(__name__)

READY_S, _DELIVERY_S = 120.0, 60.0
_ROOM_S = 0.1  # between two looks whether the producer has room
#: Settings that a benchmark makes; all others may come from the environment, and the report names them.
_OWN = ("BROKERS", "REGISTRY", "DATA", "APP", "MODEL", "LISTS", "METRICS_PORT", "TRAINER_DATA", "TRAINER_METRICS_PORT")


@dataclass
class BenchSystem:
    """What runs."""

    settings: Settings
    folder: Path
    items: list[str]
    versions: VersionMaker
    producer: Producer
    console: Console
    report: dict[str, Any]
    stack: ExitStack  # ends everything
    broker_pid: int | None = None  # of the broker, where the benchmark has started it
    own: Collection[str] = ()  # variables of the benchmark's own settings
    processes: list[Process] = field(default_factory=list)

    def start(self, command: str, name: str | None = None, program: Program = LIVERANK) -> Process:
        """Start a `liverank` command; its folder's file `ready` says when it is.

        Args:
            command: worker, trainer or gateway.
            name: names its folder, where there are several of the kind. Started again, it finds what it left there.
            program: runs instead.
        """
        folder = self.folder / (name or command)
        ready, data = folder / "ready", folder / "data"
        ready.unlink(missing_ok=True)
        own = {"ready_file": ready, "gateway_ready_file": ready, "data": data, "trainer_data": data}
        given = environment_of(changed(self.settings, **own), *_OWN, *self.own, "READY_FILE", "GATEWAY_READY_FILE")
        process = Process([command], given, folder, program)
        self.stack.callback(process.stop)
        self.processes.append(process)
        return process

    def start_ready(self, command: str, program: Program = LIVERANK) -> Process:
        """Start a command, and wait until it is ready."""
        process = self.start(command, program=program)
        with self.console.status(f"the {command} starts"):
            process.await_file(self.folder / command / "ready", READY_S)
        return process

    def kill(self, process: Process) -> None:
        """End a process at once, and do not miss it."""
        self.processes.remove(process)
        process.kill()

    def check(self) -> None:
        """Nothing, while every process runs.

        Raises:
            ProcessError: one ended.
        """
        for process in self.processes:
            process.check()

    def failure(self, what: str) -> LiverankError:
        """An error that has the end of each process's log."""
        logs = "\n".join(f"the end of the log of {one.name}:\n{one.tail()}" for one in self.processes)
        return LiverankError(f"{what}; {logs}")

    def announce(self, update: ModelUpdate) -> None:
        """Send a record to `model-updates`."""
        self.producer.produce(self.settings.topics.called(MODEL_UPDATES), msgspec.json.encode(update), key_of(update))
        self.producer.poll(0)

    def hand_over(self, topic: str, value: bytes, key: str | bytes) -> None:
        """Hand a record to the producer, once it has room for it."""
        while True:
            try:
                self.producer.produce(topic, value, key)
            except BufferError:
                self.producer.poll(_ROOM_S)
            else:
                self.producer.poll(0)
                return

    def flush(self) -> None:
        """Wait until the broker has everything that was sent.

        Raises:
            LiverankError: it did not take it in time.
        """
        left = self.producer.flush(_DELIVERY_S)
        if left:
            raise LiverankError(f"the broker did not take {left} records within {_DELIVERY_S:.0f} s")


@contextmanager
def started_system(
    broker: str, commands: tuple[str, ...], items: int, console: Console, own: Mapping[str, object] | None = None
) -> Iterator[BenchSystem]:
    """A broker, a first model and processes that are ready, for as long as the context lasts.

    Args:
        broker: an address, or kafka.
        commands: of `liverank`, each a process: worker, trainer.
        items: how many items the catalogue has.
        console: where it tells what it does.
        own: settings of this benchmark's own, as `liverank.settings.changed` names them.

    Raises:
        LiverankError: something is missing or went wrong, with the end of the log of the process concerned.
    """
    stack = ExitStack()
    try:
        with handled(signal.default_int_handler, [signal.SIGTERM]):  # as Ctrl-C does, it raises KeyboardInterrupt
            yield _set_up(broker, commands, items, console, stack, own or {})
    finally:
        with handled(signal.SIG_IGN):  # a second Ctrl-C must not interrupt the end
            stack.close()


def _set_up(
    choice: str,
    commands: tuple[str, ...],
    items: int,
    console: Console,
    stack: ExitStack,
    own: Mapping[str, object],
) -> BenchSystem:
    folder = Path(stack.enter_context(TemporaryDirectory(prefix="liverank-bench-")))
    with console.status("the broker starts"):
        broker = stack.enter_context(start_broker(choice, folder / "broker"))
    settings = changed(_settings(broker.address, folder), **own)
    report = {
        "machine": machine(broker, os.environ.get(f"{PREFIX}PROVIDER", settings.worker.provider)),
        "settings": _given(),
    }
    console.print(f"broker: {broker.kind} at {broker.address}")
    create_topics(settings.broker)
    names = [f"item-{number}" for number in range(items)]
    options = {"acks": "all", "linger.ms": 0, "partitioner": connection.PARTITIONER}
    producer = Producer(connection.librdkafka(settings.broker) | options, logger=log)
    bench = BenchSystem(
        settings, folder, names, VersionMaker(settings, names, folder), producer, console, report, stack,
        broker.pid, [name.upper() for name in own],
    )  # fmt: skip
    with console.status("the first model and the catalogue"):
        bench.announce(bench.versions.publish())
        vectors = settings.topics.called(ITEM_VECTORS)
        for vector in item_vectors(names):
            bench.hand_over(vectors, msgspec.json.encode(vector), vector.item_id)
        bench.flush()
    for command in commands:
        bench.start_ready(command)
    return bench


def _settings(brokers: str, folder: Path) -> Settings:
    return changed(
        with_topics(Settings(), load_settings().topics),
        brokers=brokers,
        registry=str(folder / "registry"),
        app=folder.name,  # a broker that was there before may know another benchmark's group and model
        model=folder.name,
        lists=1,  # its people look at one list at a time
        metrics_port=0,
        trainer_metrics_port=-1,
    )


def _given() -> dict[str, str]:
    """Settings of the processes that are not the defaults, as the environment has them."""
    names = dict.fromkeys(variable for variable in VARIABLES.values() if variable not in _OWN)
    return {name.lower(): os.environ[PREFIX + name] for name in names if PREFIX + name in os.environ}
