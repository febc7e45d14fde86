"""Apache Kafka's jars: fetched once from the Maven repository, each by itself, and checked against its hash.

Nothing is resolved: `deploy/kafka/jars.lock` names every jar with its sha256. They appear in the cache all together.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from msgspec import Struct
from rich.console import Console

from liverank.local.errors import BrokerError
from liverank.local.resources import kafka_resources
from liverank.terminal import progress_bars
from online_learning.progress import ProgressReport
from ranker.registry.address import sha256

KAFKA_VERSION = "4.3.1"
_AT_ONCE = 8


class Jar(Struct, frozen=True):
    """A jar by its Maven coordinates, and the hash that it must have."""

    group: str
    artifact: str
    version: str
    classifier: str | None
    sha256: str

    @property
    def name(self) -> str:
        """Its file's name."""
        classified = f"-{self.classifier}" if self.classifier else ""
        return f"{self.artifact}-{self.version}{classified}.jar"


def locked_jars(lock: Path | None = None) -> list[Jar]:
    """The jars that `jars.lock`, or another file of its form, names."""
    path = lock or kafka_resources() / "jars.lock"
    return list(_jars(path.read_text(encoding="utf-8")))


def _jars(text: str) -> Iterator[Jar]:
    for line in text.splitlines():
        if line and not line.startswith("#"):
            coordinates, digest = line.split()
            group, artifact, version, *classifier = coordinates.split(":")
            yield Jar(group, artifact, version, classifier[0] if classifier else None, digest)


def fetch_kafka(cache: Path | None = None, lock: Path | None = None) -> Path:
    """The folder of Apache Kafka's jars. The first call fetches them, once for all processes of the user.

    They come from Maven Central, or from the mirror that the environment's LIVERANK_MAVEN names.

    Args:
        cache: the folder above it; else the environment's LIVERANK_CACHE, else ~/.cache/liverank.
        lock: names the jars; else the file of this package.

    Raises:
        BrokerError: the Maven repository is out of reach, or a jar is not the one that was locked.
    """
    root, wanted = cache or cache_dir(), locked_jars(lock)
    jars = root / f"kafka-{KAFKA_VERSION}"
    if _whole(jars, wanted):
        return jars
    root.mkdir(parents=True, exist_ok=True)
    console = Console(stderr=True)
    with (root / f"kafka-{KAFKA_VERSION}.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if not _whole(jars, wanted):  # whoever held the lock may have fetched them
            _fetch(wanted, root, jars, console)
            console.print(f"Apache Kafka {KAFKA_VERSION} is in {jars}", soft_wrap=True)
    return jars


def cache_dir() -> Path:
    """Where what was fetched is kept."""
    configured = os.environ.get("LIVERANK_CACHE")
    return Path(configured).expanduser().resolve() if configured else Path.home() / ".cache" / "liverank"


def _whole(jars: Path, wanted: Sequence[Jar]) -> bool:
    return all((jars / jar.name).is_file() for jar in wanted)


def _fetch(wanted: Sequence[Jar], root: Path, jars: Path, console: Console) -> None:
    title = f"Apache Kafka {KAFKA_VERSION}, 41 MiB, only this once"
    with (
        tempfile.TemporaryDirectory(dir=root, prefix="fetching-") as folder,
        progress_bars(console, {"jars": title}) as show,
    ):
        context, fetched = _maven(Path(folder, "repository"), root), Path(folder, "jars")
        fetched.mkdir()
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            begun = [threads.submit(_fetch_one, jar, context, fetched) for jar in wanted]
            for count, done in enumerate(as_completed(begun), 1):
                done.result()
                show(ProgressReport("jars", count, len(wanted)))
        shutil.rmtree(jars, ignore_errors=True)  # an incomplete one
        fetched.rename(jars)  # complete or absent, whatever ends this process


def _maven(repository: Path, root: Path) -> Any:
    """What fetches from the Maven repository, into a folder of its own: another program's is none of ours to trust."""
    try:
        from jgo.maven import MavenContext  # noqa: PLC0415 (of the extra `broker`)
    except ImportError as error:
        raise BrokerError(
            f"Apache Kafka's jars are not in {root}, and what fetches them is not installed: "
            "pip install 'liverank[broker]'"
        ) from error
    mirror = os.environ.get("LIVERANK_MAVEN")
    return MavenContext(repo_cache=repository, remote_repos={"mirror": mirror.rstrip("/")} if mirror else None)


def _fetch_one(jar: Jar, context: Any, into: Path) -> None:
    component = context.project(jar.group, jar.artifact).at_version(jar.version)
    artifact = component.artifact(classifier=jar.classifier) if jar.classifier else component.artifact()
    try:
        path = Path(artifact.resolve())
    except Exception as error:
        raise BrokerError(f"{jar.name} cannot be fetched from the Maven repository: {error}") from error
    found = sha256(path)
    if found != jar.sha256:
        raise BrokerError(f"{jar.name} has the sha256 {found}; jars.lock says {jar.sha256}, so it is not used")
    shutil.copyfile(path, into / jar.name)
