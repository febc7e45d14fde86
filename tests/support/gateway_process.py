"""`liverank gateway` or `liverank web` as a process of its own, and what tests ask it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPMessage
from pathlib import Path
from typing import Any

import msgspec

from liverank.settings import Settings, changed, environment_of
from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]
_ADDRESS = re.compile(r"(?:the gateway answers|the page is) at http://127\.0\.0\.1:(\d+)")


@dataclass
class Answered:
    """What a gateway said."""

    status: int
    headers: HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        """What the body holds."""
        return msgspec.json.decode(self.body)


@dataclass
class GatewayProcess:
    """A gateway on a port of its own."""

    settings: Settings
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    command: str = "gateway"

    def start(self, port: int = 0) -> GatewayProcess:
        """Start it; `ready` waits until it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        given = environment_of(changed(self.settings, **{f"{self.command}_port": port})) | self.environment
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "liverank", self.command],
                cwd=ROOT, env=os.environ | given, stdout=log, stderr=log,
            )  # fmt: skip
        return self

    @property
    def log(self) -> str:
        """What it has said."""
        return (self.folder / "log").read_text(encoding="utf-8")

    def ready(self) -> GatewayProcess:
        """Wait until it answers, and all that there was is read."""

        def answers() -> bool:
            assert self.process is not None and self.process.poll() is None, self.log
            return _ADDRESS.search(self.log) is not None

        eventually("the gateway answers", answers)
        return self

    @property
    def port(self) -> int:
        """Where it listens on 127.0.0.1."""
        found = _ADDRESS.search(self.log)
        assert found is not None, self.log
        return int(found[1])

    @property
    def address(self) -> str:
        """For clients."""
        return f"http://127.0.0.1:{self.port}"

    def ask(self, method: str, path: str, body: Any = None, token: str | None = None, **headers: str) -> Answered:
        """Ask it once; what is no bytes goes as JSON."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        sent = {"Content-Type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        given = body if body is None or isinstance(body, bytes) else msgspec.json.encode(body)
        try:
            connection.request(method, path, given, sent)
            response = connection.getresponse()
            return Answered(response.status, response.headers, response.read())
        finally:
            connection.close()

    @contextmanager
    def stream(self, user: str, token: str | None = None) -> Iterator[Iterator[Any]]:
        """A user's rankings as they come."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(
                "GET", f"/v1/users/{user}/rankings", None, {"Authorization": f"Bearer {token}"} if token else {}
            )
            response = connection.getresponse()
            assert response.status == 200, response.read()
            assert response.headers["Content-Type"].startswith("text/event-stream")
            assert response.readline().startswith(b":"), "it begins with a comment, when it stands in place"
            yield (msgspec.json.decode(line[6:]) for line in response if line.startswith(b"data: "))
        finally:
            connection.close()

    def stop(self) -> int:
        """Ask it to end, within five seconds; its status."""
        assert self.process is not None
        self.process.terminate()
        try:
            return self.process.wait(5)
        finally:
            self.kill()

    def ended(self) -> str:
        """The one line of one that ends by itself with status 1."""
        assert self.process is not None
        assert self.process.wait(60) == 1, self.log
        self.process = None
        assert "Traceback" not in self.log, self.log
        (line,) = [line for line in self.log.splitlines() if line.startswith("error: ")]
        return line

    def kill(self) -> None:
        """End it as a fault would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)
            self.process = None
