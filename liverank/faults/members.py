"""The processes of a run, each started again where it ends by itself, as an orchestrator does."""

from __future__ import annotations

import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

from liverank.faults.checker.violations import Violation
from liverank.local.children import tail_of
from liverank.local.processes import Process

_READY_S = 600.0
_END_WITHIN_S = 30.0  # what a machine under this load may take; the report has what it took
_TEND_EVERY_S = 0.2
_MADE_ANEW = " was deleted and made anew"
_SAYS_WHY = " ends: "  # among the last lines of a process that cannot go on


class Member:
    """A `liverank worker` or `liverank trainer` with a folder of its own. One thread disturbs it, another tends it."""

    def __init__(
        self, name: str, command: str, environment: dict[str, str], folder: Path, tell: Callable[[Violation], None]
    ) -> None:
        """
        Args:
            name: for people.
            command: worker or trainer.
            environment: its settings; data folder and ready file are added.
            folder: its own: log, ready file, `data`.
            tell: hears how it ended where it should not have ended so.
        """
        self.name, self.folder, self.data = name, folder, folder / "data"
        self.restarts, self.longest_end_s = 0, 0.0  # after it had ended by itself; from SIGTERM to an end
        self._command, self._tell, self._ready = command, tell, folder / "ready"
        own = "LIVERANK_TRAINER_DATA" if command == "trainer" else "LIVERANK_DATA"
        self.environment = {**environment, own: str(self.data), "LIVERANK_READY_FILE": str(self._ready)}
        self._process: Process | None = None
        self._lock = threading.RLock()

    @property
    def pid(self) -> int | None:
        """Its process; None while it is away."""
        return None if self._process is None else self._process.pid

    @property
    def is_ready(self) -> bool:
        """Whether it serves, or learns."""
        return self._process is not None and self._ready.exists()

    def start(self) -> None:
        """Start it; `await_ready` waits until it serves."""
        with self._lock:
            self._ready.unlink(missing_ok=True)
            self._process = Process([self._command], self.environment, self.folder)

    def await_ready(self, deadline_s: float = _READY_S) -> None:
        """Wait until it serves, over whatever starts that takes."""
        deadline = time.monotonic() + deadline_s
        while not self.is_ready:
            if time.monotonic() > deadline:
                self._tell(
                    Violation("not-ready", f"{self.name} was not ready within {deadline_s:.0f} s; {self._end()}")
                )
                return
            time.sleep(0.05)

    def kill(self) -> None:
        """End it as a fault would, and leave it away."""
        with self._lock:
            process, self._process = self._process, None
            if process is not None:
                process.kill()

    def stop(self) -> None:
        """Ask it to end, and see that it does so in time and in order; then it is away."""
        with self._lock:
            process, self._process = self._process, None
        if process is None:
            return
        began = time.monotonic()
        process.stop(_END_WITHIN_S)
        self.longest_end_s = max(self.longest_end_s, time.monotonic() - began)
        if process.status == -signal.SIGKILL:
            late = f"{self.name} had not ended {_END_WITHIN_S:.0f} s after SIGTERM; {self._end()}"
            self._tell(Violation("no-end", late))

    def pause(self) -> None:
        """Let it stand still."""
        with self._lock:
            if self._process is not None:
                self._process.pause()

    def resume(self) -> None:
        """Let it go on."""
        with self._lock:
            if self._process is not None:
                self._process.resume()

    def tend(self) -> None:
        """Start it again where it ended by itself; it must have said why."""
        with self._lock:
            if self._process is None or self._process.status is None:
                return
            if self._process.status != 1 or _SAYS_WHY not in self._end():
                self._tell(Violation("end-without-reason", f"{self.name} ended by itself; {self._end()}"))
            self.restarts += 1
            self.start()

    def check_log(self) -> None:
        """No topic was made anew in a run, so none may be taken for that."""
        for line in (self.folder / "log").read_text(encoding="utf-8", errors="replace").splitlines():
            if _MADE_ANEW in line:
                self._tell(Violation("topic-mistaken", f"{self.name}: {line}"))

    def lose_data(self) -> None:
        """Empty its folder, as a disk that is replaced. It must be away."""
        shutil.rmtree(self.data, ignore_errors=True)

    def _end(self) -> str:
        return f"the end of its log:\n{tail_of(self.folder / 'log', since=0)}"


class Tending(threading.Thread):
    """Tends members until it is closed."""

    def __init__(self) -> None:
        super().__init__(daemon=True, name="tending")
        self.members: list[Member] = []
        self._done = threading.Event()

    def run(self) -> None:
        """Look after each, again and again."""
        while not self._done.wait(_TEND_EVERY_S):
            for member in list(self.members):
                member.tend()

    def close(self) -> None:
        """Tend no more, and end them all."""
        self._done.set()
        if self.is_alive():
            self.join()
        for member in self.members:
            member.resume()
            member.kill()
