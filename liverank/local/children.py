"""Programs that are started here: each with its log, and ended with who started it however that ends."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path

from liverank.local.errors import BrokerError

# Runs a program that the kernel kills when the thread that started it is gone. In the child and before exec, so that
# no Python code runs between fork and exec of a process with threads; the second line covers a parent already gone.
_DIE_WITH_PARENT = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9)
if os.getppid() == int(sys.argv[1]): os.execvp(sys.argv[2], sys.argv[2:])
"""


def spawn(argv: Sequence[str], log_file: Path) -> subprocess.Popen[bytes]:
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


def run_to_end(argv: Sequence[str], what: str, deadline_s: float) -> None:
    """Run a program to its end; its output matters only where it fails.

    Raises:
        BrokerError: it failed, or took too long.
    """
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


def tail_of(file: Path, since: int) -> str:
    """The last lines of a log, at most from a position in it on."""
    with file.open("rb") as stream:
        stream.seek(max(since, file.stat().st_size - 65_536))
        return _last_lines(stream.read().decode(errors="replace"))


def _last_lines(output: str, count: int = 25) -> str:
    return "\n".join(output.strip().splitlines()[-count:]) or "(no output)"
