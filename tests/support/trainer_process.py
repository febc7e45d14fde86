"""`liverank trainer` as a process of its own, for the tests that need a real one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from liverank.settings import Settings, environment_of

ROOT = Path(__file__).parents[2]


class Process:
    """`liverank trainer` as an operator runs it."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings, self.folder = settings, folder
        settings.trainer.ready_file.unlink(missing_ok=True)
        self._log = (folder / "trainer.log").open("ab")
        command = [sys.executable, "-m", "liverank", "trainer"]
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=os.environ | environment_of(settings), stdout=self._log, stderr=self._log
        )

    def ready(self) -> None:
        """Wait until it has read what there was before it."""
        until(lambda: self.settings.trainer.ready_file.exists() or self._process.poll() is not None)
        assert self._process.poll() is None, (self.folder / "trainer.log").read_text()[-3000:]

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """Whether it runs no more."""
        return self._process.poll() is not None

    @property
    def log(self) -> str:
        """What it has said."""
        return (self.folder / "trainer.log").read_text()

    def ended(self) -> str:
        """The log of one that ends by itself with status 1."""
        assert self._process.wait(300) == 1
        return (self.folder / "trainer.log").read_text()

    def again(self) -> Process:
        """What an orchestrator does: another one where it has ended, which it must have said in one line."""
        if self._process.poll() is None:
            return self
        assert self._process.poll() == 1
        ended = [line for line in (self.folder / "trainer.log").read_text().splitlines() if " CRITICAL " in line]
        assert ended
        assert "the trainer ends: " in ended[-1]
        return Process(self.settings, self.folder)

    def kill(self) -> None:
        """End it as a fault would."""
        self._process.kill()
        self._process.wait(10)

    def stop(self, deadline_s: float = 60.0) -> int:
        """Ask it to end; its status."""
        self._process.terminate()
        return self._process.wait(deadline_s)


class Lives:
    """`tests.support.crashing`: a trainer that dies at each of some steps in turn."""

    def __init__(self, settings: Settings, folder: Path, steps: list[str]) -> None:
        self._log = (folder / "lives.log").open("ab")
        command = [sys.executable, "-m", "tests.support.crashing", *steps]
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=os.environ | environment_of(settings), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=self._log, text=True, start_new_session=True,
        )  # fmt: skip

    def begin(self) -> None:
        """Let the next one live."""
        assert self._process.stdin is not None
        print(file=self._process.stdin, flush=True)

    def live(self) -> tuple[str, ...]:
        """Let the next one live, and die; the step and how it ended."""
        self.begin()
        assert self._process.stdout is not None
        return tuple(self._process.stdout.readline().rstrip("\n").split("\t"))

    def close(self) -> None:
        """End whichever lives, and their parent: they are a session of their own."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(10)
        self._log.close()


def until(holds: Callable[[], object], deadline_s: float = 120.0) -> None:
    """Wait until it holds."""
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        if holds():
            return
        time.sleep(0.1)
    raise AssertionError(f"not within {deadline_s} s")
