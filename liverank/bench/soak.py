"""`liverank bench soak`: does anything grow, or get slower, while events and versions come for a long time?

A worker and a trainer under a steady load; the trainer learns from what the users do and makes a version every few
seconds, and each that its gate lets pass replaces the one before. Both processes' resident memory is looked at all the
time. The first third of the run is for warming up, since caches fill and the first versions are unlike later ones: what
is told is of the other two thirds. The slope of memory is a straight line through them (`liverank.measure.slopes`); the
99th percentile of latency in the last sixth of the run is compared with that in the first sixth after the warm-up. So
30 minutes are ten of warming up, and five against five.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from random import Random
from typing import Any

import msgspec
import numpy as np
import uvloop
from rich.console import Console

from liverank.bench.load import Load, attended, prepare
from liverank.bench.models import bench_people
from liverank.bench.system import BenchSystem, started_system
from liverank.bench.tasks import beside
from liverank.measure.deliveries import repeated
from liverank.measure.processes import resident_bytes
from liverank.measure.slopes import growth
from ranker.contracts.errors import LiverankError

_WARM, _WINDOW = 1 / 3, 1 / 6  # parts of the run
_LOOKS = 36_000  # at each process's memory, in a run: a step takes and gives back a hundred megabytes in half a second
_ANSWERS_S = 60.0
_SERVES_S = 120.0
_MB = 1e6


@dataclass(frozen=True)
class SoakOptions:
    """What the user chose."""

    broker: str = "kafka"  # an address, or kafka
    minutes: float = 30.0
    rate: float = 100.0  # inputs a second
    every_s: float = 5.0  # between two versions
    users: int = 1000
    candidates: int = 100
    history: int = 50  # events that a user has done when the load begins
    items: int = 10_000


@dataclass
class SoakRun:
    """What happened, by `time.perf_counter`."""

    began: float = 0.0
    ended: float = 0.0
    looks: dict[str, list[tuple[float, float]]] = field(default_factory=dict)  # process -> times, and bytes held then
    covered: list[float | None] = field(default_factory=list)

    def part(self, share: float) -> float:
        """The time at which so much of the run was over."""
        return self.began + share * (self.ended - self.began)


def bench_soak(options: SoakOptions, console: Console) -> dict[str, Any]:
    """Run it; what it started is gone when this returns or raises.

    Raises:
        LiverankError: something is missing or went wrong, with the end of the log of the process concerned.
    """
    if min(options.minutes, options.rate, options.every_s) <= 0 or not 1 <= options.candidates <= options.items:
        raise LiverankError("minutes, rate and every-s must be above 0, candidates 1 to items")
    if sys.platform != "linux":
        raise LiverankError("what a process holds in memory is read from /proc, which Linux alone has")
    own = {"bundle_s": options.every_s}
    with started_system(options.broker, ("worker", "trainer"), options.items, console, own) as bench:
        load, run = Load(bench), SoakRun()
        uvloop.run(attended(bench, load, _perform(bench, load, run, options)))
    return {**_figures(load, run, options), **bench.report}


async def _perform(bench: BenchSystem, load: Load, run: SoakRun, options: SoakOptions) -> None:
    """Histories and lists, the trainer's first version, then the steady load while memory is looked at."""
    users, order = bench_people(bench.settings.broker.app, bench.items, options.users, options.candidates), Random(0)
    await prepare(bench, load, users, options.history)
    with bench.console.status("") as status:
        async with load.running(options.rate, lambda now: order.choice(users).next_record(now), order):
            status.update("until the trainer's first version serves")
            if not await load.until(lambda: len(load.first_of) > 1, _SERVES_S):
                raise bench.failure(f"no version of the trainer's ranks anything after {_SERVES_S:.0f} s")
            run.began, seconds = time.perf_counter(), 60 * options.minutes
            status.update(f"{options.rate:g} inputs a second for {options.minutes:g} minutes")
            await beside(asyncio.sleep(seconds), _look(bench, run, seconds / _LOOKS))
            run.ended = time.perf_counter()
        run.covered = await load.covered(_ANSWERS_S)


async def _look(bench: BenchSystem, run: SoakRun, every_s: float) -> None:
    """Read what each process holds, again and again."""
    while True:
        for process in bench.processes:
            kind = process.name.rsplit(" ", 1)[-1]
            run.looks.setdefault(kind, []).append((time.perf_counter(), resident_bytes(process.pid)))
        await asyncio.sleep(every_s)


def _figures(load: Load, run: SoakRun, options: SoakOptions) -> dict[str, Any]:
    warm = run.part(_WARM)
    first = _p99(load, run, warm, run.part(_WARM + _WINDOW))
    last = _p99(load, run, run.part(1 - _WINDOW), run.ended)
    versions = [version for version, at in load.first_of.items() if run.began <= at <= run.ended]
    inputs = sum(run.began <= event.at <= run.ended for event in load.sent)
    return {
        "memory": {kind: _growth(looks, warm) for kind, looks in run.looks.items()},
        "p99_ratio": round(last["p99"] / first["p99"], 3),
        "swaps": len(versions),
        "first_ms": first,
        "last_ms": last,
        "missing": run.covered.count(None),
        "repeated": repeated(load.arrivals),
        "inputs": inputs,
        "rate": round(inputs / (run.ended - run.began), 1),
        "load_late_p99_ms": load.late_ms(),
        "warm_up_s": round(warm - run.began, 1),
        "window_s": round(_WINDOW * (run.ended - run.began), 1),
        "options": asdict(options),
    }


def _growth(looks: Sequence[tuple[float, float]], since: float) -> dict[str, float]:
    later = [(at, held) for at, held in looks if at >= since]
    found: dict[str, float] = msgspec.to_builtins(growth([at for at, _ in later], [held / _MB for _, held in later]))
    return found


def _p99(load: Load, run: SoakRun, since: float, until: float) -> dict[str, float]:
    """The latency of the inputs that were sent between two times, in milliseconds.

    Raises:
        LiverankError: none of them was ranked.
    """
    waits = [
        1000 * (at - event.at)
        for event, at in zip(load.sent, run.covered, strict=True)
        if at is not None and since <= event.at < until
    ]
    if not waits:
        raise LiverankError("no input of a window was ranked: the machine does not keep up; give a lower --rate")
    p50, p99 = np.percentile(waits, [50, 99])
    return {"p50": round(float(p50), 3), "p99": round(float(p99), 3), "n": len(waits)}
