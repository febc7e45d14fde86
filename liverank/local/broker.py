"""A Kafka broker for this machine: one that already runs, or a real Apache Kafka without containers.

One that is started listens on loopback only, keeps its log in `DATA/broker.log` and ends with the process that started
it.
"""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from liverank.local.children import spawn, tail_of
from liverank.local.errors import BrokerError, PortTakenError
from liverank.local.kafka import BrokerProgram, kafka_program
from liverank.local.ports import free_ports, is_free
from liverank.local.readiness import wait_until_ready
from liverank.local.signals import handled
from liverank.serve.own_folder import held

VALID_CHOICES = "valid are: the address of a running broker, such as 'localhost:9092'; 'kafka', which starts one here"

_PORT_ATTEMPTS = 5
_PORT_TAKEN = re.compile(r"address (already )?in use", re.IGNORECASE)
_ADDRESS = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):\d{1,5}")
_EXTERNAL_DEADLINE_S = 15.0
_STOP_DEADLINE_S = 20.0

Kind = Literal["kafka", "external"]


@dataclass(slots=True)
class Broker:
    """A broker that answers at `address`.

    One that was started here can be stopped, killed and restarted, on the same port and data folder, and keeps topics
    and committed offsets over each of these. The methods block: call them by `asyncio.to_thread` where a loop has to go
    on meanwhile.
    """

    address: str
    kind: Kind
    _program: BrokerProgram | None = field(default=None, repr=False)
    _deadline_s: float = field(default=60.0, repr=False)
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def pid(self) -> int | None:
        """The broker's process, None while it is down or where it was not started here."""
        return self._process.pid if self._process and self.running else None

    @property
    def running(self) -> bool:
        """Whether the process that was started here is alive."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the process and wait until it answers.

        Raises:
            BrokerError: it ended or did not answer in time; the message has the end of its log.
        """
        program = self._own()
        if self.running:
            return
        written = program.log_file.stat().st_size if program.log_file.exists() else 0
        self._process = spawn(program.argv, program.log_file)
        try:
            ready = wait_until_ready(self.address, program.cluster_id, self._deadline_s, lambda: self.running)
        except BaseException:
            self.kill()
            raise
        if not ready:
            reason = f"did not answer within {self._deadline_s:.0f} s" if self.running else "ended while it started"
            self.kill()
            tail = tail_of(program.log_file, since=written)
            error = PortTakenError if _PORT_TAKEN.search(tail) else BrokerError
            raise error(f"the broker at {self.address} {reason}; the end of {program.log_file}:\n{tail}")

    def stop(self) -> None:
        """End the process in order (SIGTERM), or after 20 s without (SIGKILL). Nothing happens where it is down."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the process as a fault would (SIGKILL) and wait until it is gone."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Let it stand still (SIGSTOP): its connections stay, and nothing is answered. `resume` lets it go on."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on (SIGCONT)."""
        self._signal(signal.SIGCONT)

    def restart(self) -> None:
        """Stop it if it runs, then start it on the same port and data folder and wait until it answers."""
        self.stop()
        self.start()

    def _own(self) -> BrokerProgram:
        if self._program is None:
            raise BrokerError(f"the broker at {self.address} was not started here: only its owner can stop or start it")
        return self._program

    def _signal(self, number: signal.Signals) -> None:
        self._own()
        if self._process is not None:
            self._process.send_signal(number)

    def _end(self, by: signal.Signals) -> None:
        self._own()
        if self._process is None:
            return
        self._process.send_signal(by)
        try:
            self._process.wait(_STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None


@contextmanager
def start_broker(
    choice: str,
    data_dir: Path,
    *,
    port: int | None = None,
    settings: Mapping[str, str] | None = None,
    heap_mb: int = 512,
    deadline_s: float = 60.0,
) -> Iterator[Broker]:
    """A broker that answers, for as long as the context lasts.

    Args:
        choice: `host:port[,host:port]` of a running broker, or `kafka`.
        data_dir: holds the broker's log and data, which a later call with the same folder finds.
        port: where to listen on 127.0.0.1; a free port is picked otherwise.
        settings: what to change in server.properties.
        heap_mb: the largest Java heap.
        deadline_s: how long a start may take, not counting the first fetch of the jars.

    Raises:
        BrokerError: the choice is unknown, what it needs is missing, or the broker does not start or answer.
        LiverankError: another broker has the folder, or it cannot be written.
    """
    kind = kind_of(choice)
    if kind == "external":
        if not wait_until_ready(choice, None, min(deadline_s, _EXTERNAL_DEADLINE_S), lambda: True):
            raise BrokerError(f"no Kafka broker answers at {choice!r}; {VALID_CHOICES}")
        yield Broker(choice, kind)
        return
    folder = data_dir.resolve()
    # Kafka's own lock comes too late: by then the second has read what the first is writing.
    with held(
        folder, f"{data_dir} is in use by the broker of the process {{holder}}: another needs a folder of its own"
    ):
        broker = _start_on_a_free_port(lambda at: kafka_program(folder, at, settings or {}, heap_mb), port, deadline_s)
        try:
            yield broker
        finally:
            broker.stop()


def kind_of(choice: str) -> Kind:
    """Which kind of broker `choice` stands for; starts nothing.

    Raises:
        BrokerError: the choice is unknown.
    """
    if choice == "kafka":
        return "kafka"
    if all(_ADDRESS.fullmatch(part) for part in choice.split(",")):
        return "external"
    raise BrokerError(f"unknown broker {choice!r}; {VALID_CHOICES}")


def run_in_foreground(data_dir: Path, port: int) -> None:
    """Run an Apache Kafka until Ctrl-C or SIGTERM.

    Args:
        data_dir: its folder.
        port: where it listens on 127.0.0.1.

    Raises:
        BrokerError: it does not start, or it ended by itself.
    """
    try:
        # Both signals end it by KeyboardInterrupt, also while it starts.
        with handled(signal.default_int_handler), start_broker("kafka", data_dir, port=port) as broker:
            _show_until_stopped(broker, data_dir / "broker.log")
    except KeyboardInterrupt:
        return


def _show_until_stopped(broker: Broker, log_file: Path) -> None:
    try:
        print(f"Apache Kafka at {broker.address}, log in {log_file}; Ctrl-C ends it", flush=True)
        while broker.running:
            time.sleep(0.5)
    except KeyboardInterrupt:
        # Ctrl-C reaches this process twice where uv or make runs it: the second must not interrupt the stop.
        for stop in (signal.SIGINT, signal.SIGTERM):
            signal.signal(stop, signal.SIG_IGN)
        return
    raise BrokerError(f"the broker ended by itself; the end of {log_file}:\n{tail_of(log_file, since=0)}")


def _start_on_a_free_port(program: Callable[[int], BrokerProgram], port: int | None, deadline_s: float) -> Broker:
    """Between the look for a free port and the broker's bind another process can take it: then look again."""
    for attempt in range(1, _PORT_ATTEMPTS + 1):
        if port is not None and not is_free(port):
            raise BrokerError(f"port {port} of 127.0.0.1 is taken; valid are a free port, or none to have one picked")
        plan = program(port if port is not None else free_ports(1)[0])
        broker = Broker(plan.address, "kafka", plan, deadline_s)
        try:
            broker.start()
        except PortTakenError:
            if attempt == _PORT_ATTEMPTS:
                raise
        else:
            return broker
    raise AssertionError("the last attempt returns or raises")
