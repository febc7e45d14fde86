"""`liverank bench recovery`: a worker is killed, and later comes back; how long does anybody wait for a ranking?

Two workers share the users under a steady load. Again and again one of them gets kill -9, then a stretch passes in
which the other one takes over its users, then it is started again in its old folder and takes its share back, and
another stretch passes. An input's wait is from the hand-over to the producer to the first ranking that knows of it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from random import Random
from typing import Any, NamedTuple

import numpy as np
import uvloop
from rich.console import Console

from liverank.bench.load import Load, attended, prepare
from liverank.bench.models import bench_people
from liverank.bench.system import READY_S, BenchSystem, started_system
from liverank.measure.deliveries import SentInput, repeated
from ranker.contracts.errors import LiverankError

_ANSWERS_S = 60.0
_SECOND = "worker-2"


@dataclass(frozen=True)
class RecoveryOptions:
    """What the user chose."""

    broker: str = "kafka"  # an address, or kafka
    kills: int = 3
    stretch_s: float = 20.0  # after a kill, and after the worker is back
    rate: float = 100.0  # inputs a second
    users: int = 1000
    candidates: int = 100
    history: int = 50
    items: int = 2000
    warm_s: float = 5.0  # of load before the first kill


class RecoveryStretch(NamedTuple):
    """Times by `time.perf_counter` between which one thing happened to the group of workers."""

    since: float
    until: float


class RecoveryRun(NamedTuple):
    """What happened."""

    kills: list[RecoveryStretch]
    returns: list[RecoveryStretch]
    covered: list[float | None]


def bench_recovery(options: RecoveryOptions, console: Console) -> dict[str, Any]:
    """RecoveryRun it; what it started is gone when this returns or raises.

    Raises:
        LiverankError: something is missing or went wrong, with the end of the log of the process concerned.
    """
    if min(options.kills, options.rate, options.stretch_s) <= 0 or not 1 <= options.candidates <= options.items:
        raise LiverankError("kills, rate and stretch-s must be above 0, candidates 1 to items")
    with started_system(options.broker, ("worker",), options.items, console) as bench:
        load = Load(bench)
        run = uvloop.run(attended(bench, load, _perform(bench, load, options)))
    return {**_figures(load, run, options), **bench.report}


async def _perform(bench: BenchSystem, load: Load, options: RecoveryOptions) -> RecoveryRun:
    """Give the users histories and lists, then kill and start again under load."""
    users, order = bench_people(bench.settings.broker.app, bench.items, options.users, options.candidates), Random(0)
    await _started(bench, _SECOND)
    await prepare(bench, load, users, options.history)
    kills, returns = [], []
    with bench.console.status("") as status:
        async with load.running(options.rate, lambda now: order.choice(users).next_record(now), order):
            await asyncio.sleep(options.warm_s)
            for number in range(1, options.kills + 1):
                status.update(f"kill {number} of {options.kills}")
                victim, killed = bench.processes[0], time.perf_counter()
                bench.kill(victim)
                await asyncio.sleep(options.stretch_s)
                status.update(f"the worker of kill {number} comes back")
                back = time.perf_counter()
                await _started(bench, victim.log.parent.name)
                await asyncio.sleep(options.stretch_s)
                kills.append(RecoveryStretch(killed, back))
                returns.append(RecoveryStretch(back, time.perf_counter()))
        status.update("until every input has its ranking")
        return RecoveryRun(kills, returns, await load.covered(_ANSWERS_S))


async def _started(bench: BenchSystem, name: str) -> None:
    process = bench.start("worker", name)
    await asyncio.to_thread(process.await_file, bench.folder / name / "ready", READY_S)


def longest_waits(
    events: Sequence[SentInput], covered: Sequence[float | None], stretches: Sequence[RecoveryStretch]
) -> list[float]:
    """For each stretch, the longest wait in seconds that ended in it; also of an input that was sent before it.

    Args:
        events: the inputs.
        covered: when each one's ranking came; None where none did, which is counted elsewhere.
        stretches: in any order.
    """
    pairs = [(event.at, at) for event, at in zip(events, covered, strict=True) if at is not None]
    return [max((at - sent for sent, at in pairs if since < at <= end), default=0.0) for since, end in stretches]


def _figures(load: Load, run: RecoveryRun, options: RecoveryOptions) -> dict[str, Any]:
    first, last = run.kills[0].since, run.returns[-1].until
    waits = [
        at - event.at for event, at in zip(load.sent, run.covered, strict=True)
        if at is not None and first <= event.at <= last
    ]  # fmt: skip
    return {
        "kill_wait_s": _spread(longest_waits(load.sent, run.covered, run.kills)),
        "return_wait_s": _spread(longest_waits(load.sent, run.covered, run.returns)),
        "over_1_s": round(sum(wait > 1 for wait in waits) / len(waits), 4),
        "missing": run.covered.count(None),
        "repeated": repeated(load.arrivals),
        "inputs": len(waits),
        "rate": round(len(waits) / (last - first), 1),
        "load_late_p99_ms": load.late_ms(),
        "options": asdict(options),
    }


def _spread(waits: Sequence[float]) -> dict[str, float]:
    return {"median": round(float(np.median(waits)), 2), "max": round(max(waits), 2), "n": len(waits)}
