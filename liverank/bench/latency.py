"""`liverank bench latency`: how soon is the ranking there, and what does it cost the worker?

One worker. First a steady load of lists and clicks, where latency and processor time are those of an ordinary day; then
a burst, as many inputs at once as the broker takes, where it shows how fast the worker is when it is behind.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from random import Random
from typing import Any

import msgspec
import uvloop
from msgspec import Struct
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from liverank.bench.load import Load, attended, prepare
from liverank.bench.models import bench_people
from liverank.bench.system import BenchSystem, started_system
from liverank.local.processes import LIVERANK, Program
from liverank.measure.deliveries import repeated
from liverank.measure.freshness import percentiles
from ranker.contracts.clock import now_ms
from ranker.contracts.errors import LiverankError

_ANSWERS_S, _BURST_S = 30.0, 300.0
_CPU = "process_cpu_seconds_total"  # of all the worker's threads, by its own page


@dataclass(frozen=True)
class LatencyOptions:
    """What the user chose."""

    broker: str = "kafka"  # an address, or kafka
    seconds: float = 30.0
    rate: float = 200.0  # inputs a second
    burst: int = 20_000  # inputs at once
    users: int = 1000
    candidates: int = 100
    history: int = 50  # events that a user has done when the measurement begins
    items: int = 10_000
    warm_s: float = 5.0  # of load before anything is measured


class LatencyStretch(Struct):
    """A part of the run: its inputs by their number, its length, and what it cost the worker."""

    first: int = 0
    end: int = 0
    seconds: float = 0.0
    cpu_s: float | None = None  # None where the worker's page does not tell


def bench_latency(options: LatencyOptions, console: Console, worker: Program = LIVERANK) -> dict[str, Any]:
    """Run it; what it started is gone when this returns or raises.

    Args:
        options: what the user chose.
        console: where it tells what it does.
        worker: what is measured, which may be another worker of the same topics.

    Raises:
        LiverankError: something is missing or went wrong, with the end of the log of the process concerned.
    """
    if min(options.seconds, options.rate, options.burst) <= 0 or not 1 <= options.candidates <= options.items:
        raise LiverankError("seconds, rate and burst must be above 0, candidates 1 to items")
    with started_system(options.broker, (), options.items, console) as bench:
        bench.start_ready("worker", worker)
        load = Load(bench)
        covered, steady, burst = uvloop.run(attended(bench, load, _perform(bench, load, options)))
    return {**_figures(load, covered, steady, burst, options), **bench.report}


async def _perform(
    bench: BenchSystem, load: Load, options: LatencyOptions
) -> tuple[list[float | None], LatencyStretch, LatencyStretch]:
    """Give the users histories and lists, then the steady load, then the burst.

    Raises:
        LiverankError: the worker ranks nothing.
    """
    users, order = bench_people(bench.settings.broker.app, bench.items, options.users, options.candidates), Random(0)
    await prepare(bench, load, users, options.history)
    with bench.console.status("") as status:
        async with load.running(options.rate, lambda now: order.choice(users).next_record(now), order):
            status.update(f"{options.rate:g} inputs a second, not measured yet")
            await asyncio.sleep(options.warm_s)
            status.update(f"{options.rate:g} inputs a second for {options.seconds:g} s")
            with _measured(bench, load) as steady:
                await asyncio.sleep(options.seconds)
        await load.covered(_ANSWERS_S)
        status.update(f"{options.burst} inputs at once")
        with _measured(bench, load) as burst:
            for _ in range(options.burst):
                load.send(order.choice(users).next_record(now_ms()))
                await load.room()
            covered = await load.covered(_BURST_S)
    if set(covered[steady.first : steady.end]) == {None} or set(covered[burst.first :]) == {None}:
        raise bench.failure(f"no ranking came within {_BURST_S:.0f} s")
    return covered, steady, burst


@contextmanager
def _measured(bench: BenchSystem, load: Load) -> Iterator[LatencyStretch]:
    """What happens within: filled in at the end."""
    cpu_s = _on_page(bench, _CPU)
    stretch, began = LatencyStretch(first=len(load.sent)), time.perf_counter()
    yield stretch
    stretch.end, stretch.seconds = len(load.sent), time.perf_counter() - began
    now = _on_page(bench, _CPU)
    stretch.cpu_s = None if cpu_s is None or now is None else now - cpu_s


def _on_page(bench: BenchSystem, name: str) -> float | None:
    """A number that the worker tells Prometheus; some are told on Linux alone."""
    families = text_string_to_metric_families(bench.processes[0].page())
    return next((one.value for family in families for one in family.samples if one.name == name), None)


def _figures(
    load: Load, covered: list[float | None], steady: LatencyStretch, burst: LatencyStretch, options: LatencyOptions
) -> dict[str, Any]:
    events = list(zip(load.sent, covered, strict=True))
    waits = [1000 * (at - event.at) for event, at in events[steady.first : steady.end] if at is not None]
    started = load.sent[burst.first].at
    seconds = max(at for at in covered[burst.first :] if at is not None) - started
    return {
        "latency_ms": msgspec.to_builtins(percentiles(waits)),
        "rate": round((steady.end - steady.first) / steady.seconds, 1),
        "worker_cpu_us": _each(steady),
        "burst": {
            "inputs": burst.end - burst.first,
            "seconds": round(seconds, 2),
            "inputs_per_s": round((burst.end - burst.first) / seconds),
            "rankings": sum(arrival.at >= started for arrival in load.arrivals),
            "worker_cpu_us": _each(burst),
        },
        "missing": covered.count(None),
        "repeated": repeated(load.arrivals),
        "load_late_p99_ms": load.late_ms(),
        "options": asdict(options),
    }


def _each(stretch: LatencyStretch) -> float | None:
    """Microseconds of the worker's processor time for each input."""
    inputs = stretch.end - stretch.first
    return None if stretch.cpu_s is None else round(1e6 * stretch.cpu_s / inputs)
