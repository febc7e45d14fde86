"""The jars of Apache Kafka come once, whole and unchanged, or with a readable error."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from liverank.local.errors import BrokerError
from liverank.local.jars import KAFKA_VERSION, fetch_kafka, locked_jars
from liverank.local.resources import kafka_resources

JARS = {"org/example/one/1.0/one-1.0.jar": b"first", "org/example/two/2.0/two-2.0-extra.jar": b"second"}


class Repository:
    """A Maven repository on this machine, and a lock of what it should hold."""

    def __init__(self, folder: Path) -> None:
        self.asked: list[str] = []
        self.files = folder / "maven"
        for name, content in JARS.items():
            path = self.files / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        self.lock = folder / "jars.lock"
        one, two = (hashlib.sha256(content).hexdigest() for content in JARS.values())
        self.lock.write_text(f"# a comment\norg.example:one:1.0 {one}\norg.example:two:2.0:extra {two}\n")


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Repository]:
    """One that LIVERANK_MAVEN names, on a real HTTP server."""
    made = Repository(tmp_path)

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            made.asked.append(self.path)

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(made.files)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("LIVERANK_MAVEN", f"http://127.0.0.1:{server.server_port}/")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield made
    server.shutdown()
    server.server_close()


def test_several_at_once_fetch_each_jar_once(repository: Repository, tmp_path: Path) -> None:
    """All get the same complete folder, with the files as they were locked."""
    with ThreadPoolExecutor(4) as pool:
        folders = set(pool.map(lambda _: fetch_kafka(tmp_path / "cache", repository.lock), range(4)))
    assert folders == {tmp_path / "cache" / f"kafka-{KAFKA_VERSION}"}
    found = {path.name: path.read_bytes() for path in folders.pop().iterdir()}
    assert found == {"one-1.0.jar": b"first", "two-2.0-extra.jar": b"second"}
    asked = [path for path in repository.asked if path.endswith(".jar")]
    assert sorted(asked) == sorted(f"/{name}" for name in JARS)


def test_a_jar_that_was_changed_is_refused(repository: Repository, tmp_path: Path) -> None:
    """Its hash is not the lock's: the error names it, nothing of the fetch stays, and a right one is taken later."""
    changed = repository.files / next(iter(JARS))
    right = changed.read_bytes()
    changed.write_bytes(b"something else")
    with pytest.raises(BrokerError, match=r"one-1\.0\.jar has the sha256 .*; jars\.lock says"):
        fetch_kafka(tmp_path / "cache", repository.lock)
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".lock"]
    changed.write_bytes(right)
    assert fetch_kafka(tmp_path / "cache", repository.lock).is_dir()


def test_a_jar_that_is_missing_is_one_readable_error(repository: Repository, tmp_path: Path) -> None:
    """It names the jar, and nothing half-fetched stays."""
    (repository.files / next(iter(JARS))).unlink()
    with pytest.raises(BrokerError, match=r"one-1\.0\.jar cannot be fetched from the Maven repository"):
        fetch_kafka(tmp_path / "cache", repository.lock)
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".lock"]


def test_an_incomplete_folder_is_made_whole(repository: Repository, tmp_path: Path) -> None:
    """A jar that somebody deleted is there again."""
    folder = fetch_kafka(tmp_path / "cache", repository.lock)
    (folder / "one-1.0.jar").unlink()
    assert (fetch_kafka(tmp_path / "cache", repository.lock) / "one-1.0.jar").read_bytes() == b"first"


def test_the_version_is_the_same_everywhere() -> None:
    """The version in the code is the lock's, and the template that goes into the wheel is beside it."""
    versions = {jar.artifact: jar.version for jar in locked_jars()}
    assert versions["kafka_2.13"] == versions["kafka-clients"] == KAFKA_VERSION
    assert (kafka_resources() / "server.properties").is_file()
