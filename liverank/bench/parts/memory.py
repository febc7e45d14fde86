"""`liverank bench memory`: how much memory a log of a million lists takes, to be looked at and to be learned from.

A made-up folder is written, then `liverank data check` and `liverank train` run on it one after the other, each a
process of its own; what is told of each is the most memory that it ever held.
"""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
from rich.console import Console

from liverank.local.processes import ProcessError
from liverank.measure.machine import bare_machine
from liverank.simulate.large_log import LogSizes, write_large_log
from ranker.contracts.errors import LiverankError

# A process begins with the peak of the one that started it, so a small one starts what is measured.
_MEASURED = """
import json, resource, subprocess, sys
status = subprocess.call([sys.executable, "-m", "liverank", *sys.argv[2:]])
used = resource.getrusage(resource.RUSAGE_CHILDREN)
unit = 1 if sys.platform == "darwin" else 1024
json.dump({"peak": used.ru_maxrss * unit, "cpu": used.ru_utime + used.ru_stime}, open(sys.argv[1], "w"))
sys.exit(status)
"""
_LINES_SHOWN = 15


@dataclass(frozen=True)
class MemoryOptions:
    """What the user chose."""

    lists: int = 1_000_000
    length: int = 50
    items: int = 50_000
    users: int = 200_000
    epochs: int = 1


def bench_memory(options: MemoryOptions, console: Console) -> dict[str, Any]:
    """Run it; the folder, some 0.3 KB a list and item, and what was made of it are gone when this returns or raises.

    Raises:
        LiverankError: the sizes do not fit together, or a command failed, with the end of what it said.
    """
    if min(options.lists, options.length, options.users, options.epochs) < 1 or options.items < options.length:
        raise LiverankError("lists, length, users and epochs must be at least 1, items at least as many as length")
    sizes = LogSizes(options.lists, options.length, options.items, options.users)
    with TemporaryDirectory(prefix="liverank-memory-") as temporary, console.status("") as status:
        log, out = Path(temporary) / "log", Path(temporary) / "out"
        out.mkdir()
        status.update(f"a log of {sizes.lists} lists")
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:  # its memory is no longer there afterwards
            pool.submit(write_large_log, log, sizes).result()
        status.update("data check")
        check, facts = _measured(["data", "check", str(log)], out)
        status.update("train")
        arguments = ["train", str(log), "--registry", str(out / "registry"), "--epochs", str(options.epochs)]
        train, made = _measured(arguments, out)
        written = sum(path.stat().st_size for path in log.rglob("*.parquet"))
    return {
        "check": {**check, **{name: facts[name] for name in ("lists", "events", "users", "items_seen", "choices")}},
        "train": {**train, "examples": made["examples"], "loss": made["loss"]},
        "folder_gib": _gib(written),
        "machine": bare_machine(),
        "options": asdict(options),
    }


def _measured(arguments: list[str], out: Path) -> tuple[dict[str, float], dict[str, Any]]:
    """What a command took, and the report that it wrote."""
    used, report, log = out / "used.json", out / "report.json", out / "log"
    command = [sys.executable, "-c", _MEASURED, str(used), *arguments, "--json", str(report)]
    began = time.monotonic()
    with log.open("wb") as said:
        status = subprocess.call(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
    seconds = time.monotonic() - began
    if status:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        raise ProcessError(f"liverank {' '.join(arguments)} ended with {status}:\n" + "\n".join(lines[-_LINES_SHOWN:]))
    took = msgspec.json.decode(used.read_bytes())
    figures = {"peak_gib": _gib(took["peak"]), "seconds": round(seconds, 1), "cpu_seconds": round(took["cpu"], 1)}
    return figures, msgspec.json.decode(report.read_bytes())


def _gib(size: float) -> float:
    return round(size / (1 << 30), 3)
