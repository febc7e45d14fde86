"""What a running process holds and has used, by what Linux tells of it."""

from __future__ import annotations

import os
from pathlib import Path

from ranker.contracts.errors import LiverankError


def resident_bytes(pid: int) -> int:
    """What a process holds in memory.

    Raises:
        LiverankError: it has ended.
    """
    said = _told(pid, "status")
    return next((1024 * int(line.split()[1]) for line in said.splitlines() if line.startswith("VmRSS:")), 0)


def processor_seconds(pid: int) -> float:
    """What a process has used of the processors since it began, all threads, in user and kernel mode.

    Raises:
        LiverankError: it has ended.
    """
    after_name = _told(pid, "stat").rpartition(")")[2].split()  # the name may hold spaces
    user, system = int(after_name[11]), int(after_name[12])  # proc(5): utime and stime, fields 14 and 15
    return (user + system) / os.sysconf("SC_CLK_TCK")


def _told(pid: int, what: str) -> str:
    try:
        return Path(f"/proc/{pid}/{what}").read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise LiverankError(f"process {pid} has ended") from error
