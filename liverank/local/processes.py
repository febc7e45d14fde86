"""Processes of the demo and the benchmarks: each with its own log, ended with who started it however that ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ranker.contracts.errors import LiverankError

_STOP_S = 10.0
_LINES_SHOWN = 15
_PAGE = re.compile(r"metrics at (http://\S+)")  # how a process logs where its page is
_ADDRESS = re.compile(r"(?:the page is|the gateway answers) at (http://\S+)")  # ... and where it serves others
_PAGE_S = 10.0
# Whatever proxy the environment names is none for a page on this machine.
_open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open

# Where the parent is gone the kernel sends SIGTERM (Linux: prctl 1 is PR_SET_PDEATHSIG), so that not even kill -9 of
# its parent leaves a process behind; the comparison covers a parent that was gone before.
_CHILD = """
import ctypes, os, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, 15)
if os.getppid() == int(sys.argv.pop(1)):
    from importlib import import_module
    getattr(import_module(sys.argv.pop(1)), sys.argv.pop(1))()
"""


class Program(NamedTuple):
    """What a process runs: a function of a module, by an interpreter."""

    module: str = "liverank.cli.main"
    function: str = "main"
    python: str = sys.executable


LIVERANK = Program()


class ProcessError(LiverankError):
    """A process that ended, or did not become ready; the message has the end of its log."""


class Process:
    """One `liverank` command running on the side."""

    def __init__(
        self, arguments: Sequence[str], environment: dict[str, str], folder: Path, program: Program = LIVERANK
    ) -> None:
        """
        Args:
            arguments: of `liverank`, such as `["worker"]`.
            environment: on top of this process's.
            folder: where it runs, and where its log is.
            program: runs instead of `liverank`, with the same arguments.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.name = f"liverank {' '.join(arguments)}"
        self.log = folder / "log"
        with self.log.open("ab") as log:
            # A session of its own keeps Ctrl-C from it: who uses it stops first.
            self._process = subprocess.Popen(
                [program.python, "-c", _CHILD, str(os.getpid()), program.module, program.function, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=folder,
                env={**os.environ, **environment},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def ended(self) -> str | None:
        """Why it ended, by the last line of its log; None while it runs."""
        status = self._process.poll()
        if status is None:
            return None
        said = [line for line in self.tail().splitlines() if line.strip()]
        return f"status {status}: {said[-1]}"

    @property
    def status(self) -> int | None:
        """How it ended: its exit status, or the signal's number below 0; None while it runs."""
        return self._process.poll()

    def check(self) -> None:
        """Nothing, while it runs.

        Raises:
            ProcessError: it ended.
        """
        status = self._process.poll()
        if status is not None:
            raise ProcessError(f"{self.name} ended with status {status}; the end of its log:\n{self.tail()}")

    def await_file(self, path: Path, deadline_s: float) -> None:
        """Wait until the process has written a file.

        Raises:
            ProcessError: it ended before, or the deadline passed.
        """
        deadline = time.monotonic() + deadline_s
        while not path.exists():
            self.check()
            if time.monotonic() > deadline:
                raise ProcessError(
                    f"{self.name} was not ready within {deadline_s:.0f} s; the end of its log:\n{self.tail()}"
                )
            time.sleep(0.05)

    def page(self) -> str:
        """Its Prometheus page, as it is now.

        Raises:
            ProcessError: it shows none.
        """
        found = _PAGE.findall(self.log.read_text(encoding="utf-8", errors="replace"))
        try:
            if not found:
                raise OSError("its log names no address")
            with _open(found[-1], timeout=_PAGE_S) as answer:  # of its last start, where it was started again
                return str(answer.read(), "utf-8")
        except OSError as error:
            self.check()
            raise ProcessError(f"{self.name} shows no metrics: {error}; the end of its log:\n{self.tail()}") from error

    def address(self) -> str | None:
        """Where people find its page, or applications a gateway, as its log says; None where it has not said so."""
        found = _ADDRESS.findall(self.log.read_text(encoding="utf-8", errors="replace"))
        return found[-1] if found else None

    def ask_to_stop(self) -> None:
        """Ask it to end in order (SIGTERM); `stop` waits for that."""
        self._process.send_signal(signal.SIGTERM)

    def pause(self) -> None:
        """Let it stand still (SIGSTOP), as a machine that swaps or migrates does; `resume` lets it go on."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on (SIGCONT)."""
        self._process.send_signal(signal.SIGCONT)

    def stop(self, within_s: float = _STOP_S) -> None:
        """End it in order, or without (SIGKILL) where that takes too long."""
        self.ask_to_stop()
        try:
            self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End it at once (SIGKILL): it can put nothing in order."""
        self._process.kill()
        self._process.wait()

    def tail(self) -> str:
        """The last lines of its log."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return "\n".join(lines[-_LINES_SHOWN:]) or "(nothing was logged)"
