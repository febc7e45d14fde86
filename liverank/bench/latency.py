"""`liverank bench latency`: how soon is the ranking there, and what does it cost the worker?

One worker. First a steady load of lists and clicks, where latency and processor time are those of an ordinary day: at
one rate, and where that is asked for at others, and beside a trainer. Then a burst, as many inputs at once as the
broker takes, where it shows how fast the worker is when it is behind.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import uvloop
from msgspec import Struct
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from liverank.bench.load import Load, attended, prepare
from liverank.bench.models import bench_people
from liverank.bench.system import BenchSystem, started_system
from liverank.local.processes import LIVERANK, Program
from liverank.measure.deliveries import repeated
from liverank.measure.processes import processor_seconds
from liverank.simulate.users import SimulatedUser
from ranker.contracts.clock import now_ms
from ranker.contracts.errors import LiverankError

_ANSWERS_S, _BURST_S, _SERVES_S = 30.0, 300.0, 120.0
_PROFILED_S = 30.0  # until a profile is written, after its time
_SAMPLES_PER_S = 200
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
    rates: tuple[float, ...] = ()  # measured too
    with_trainer: bool = False  # measured too
    profile: str | None = None  # where a flame graph of the steady stretch goes


class LatencyStretch(Struct):
    """A part of the run: its inputs by their number, its length, and what it cost the worker."""

    first: int = 0
    end: int = 0
    seconds: float = 0.0
    cpu_s: float | None = None  # None where the worker's page does not tell
    broker_s: float | None = None  # processor time of the broker, where it was started here and on Linux


@dataclass
class LatencyRun:
    """The stretches that were measured, and when the ranking came that covers each input."""

    steady: LatencyStretch = field(default_factory=LatencyStretch)
    burst: LatencyStretch = field(default_factory=LatencyStretch)
    by_rate: dict[float, LatencyStretch] = field(default_factory=dict)
    beside: list[LatencyStretch] = field(default_factory=list)  # before, with, and after the trainer
    swaps: int = 0  # versions that began to rank beside the trainer
    covered: list[float | None] = field(default_factory=list)


def bench_latency(options: LatencyOptions, console: Console, worker: Program = LIVERANK) -> dict[str, Any]:
    """Run it; what it started is gone when this returns or raises.

    Args:
        options: what the user chose.
        console: where it tells what it does.
        worker: what is measured, which may be another worker of the same topics.

    Raises:
        LiverankError: something is missing or went wrong, with the end of the log of the process concerned.
    """
    least = min(options.seconds, options.rate, options.burst, *options.rates)
    if least <= 0 or not 1 <= options.candidates <= options.items:
        raise LiverankError("seconds, rate, rates and burst must be above 0, candidates 1 to items")
    if options.profile is not None:
        _profiler()
    with started_system(options.broker, (), options.items, console) as bench:
        bench.start_ready("worker", worker)
        load = Load(bench)
        run = uvloop.run(attended(bench, load, _perform(bench, load, options)))
    return {**_figures(load, run, options), **bench.report}


async def _perform(bench: BenchSystem, load: Load, options: LatencyOptions) -> LatencyRun:
    """Give the users histories and lists, then the steady loads, then the burst.

    Raises:
        LiverankError: the worker ranks nothing.
    """
    users, order = bench_people(bench.settings.broker.app, bench.items, options.users, options.candidates), Random(0)
    run = LatencyRun()
    await prepare(bench, load, users, options.history)
    async with _profiled(bench, options):
        run.steady = await _steady(bench, load, users, order, options.rate, options)
    for rate in options.rates:
        run.by_rate[rate] = await _steady(bench, load, users, order, rate, options)
    if options.with_trainer:
        await _beside_a_trainer(bench, load, users, order, options, run)
    with bench.console.status(f"{options.burst} inputs at once"), _measured(bench, load) as run.burst:
        for _ in range(options.burst):
            load.send(order.choice(users).next_record(now_ms()))
            await load.room()
        run.covered = await load.covered(_BURST_S)
    for stretch in (run.steady, run.burst, *run.by_rate.values(), *run.beside):
        if set(run.covered[stretch.first : stretch.end]) == {None}:
            raise bench.failure(f"no ranking came within {_BURST_S:.0f} s")
    return run


async def _steady(
    bench: BenchSystem, load: Load, users: list[SimulatedUser], order: Random, rate: float, options: LatencyOptions
) -> LatencyStretch:
    """A load at a rate; what is still under way at its end is waited for."""
    with bench.console.status("") as status:
        async with load.running(rate, lambda now: order.choice(users).next_record(now), order):
            status.update(f"{rate:g} inputs a second, not measured yet")
            await asyncio.sleep(options.warm_s)
            status.update(f"{rate:g} inputs a second for {options.seconds:g} s")
            with _measured(bench, load) as stretch:
                await asyncio.sleep(options.seconds)
        await load.covered(_ANSWERS_S)
    return stretch


async def _beside_a_trainer(
    bench: BenchSystem, load: Load, users: list[SimulatedUser], order: Random, options: LatencyOptions, run: LatencyRun
) -> None:
    """The same load without a trainer, with one whose first version serves, and without one again.

    Raises:
        LiverankError: no version of the trainer's serves in time.
    """
    run.beside.append(await _steady(bench, load, users, order, options.rate, options))
    trainer, known = bench.start_ready("trainer"), len(load.first_of)
    async with load.running(options.rate, lambda now: order.choice(users).next_record(now), order):
        if not await load.until(lambda: len(load.first_of) > known, _SERVES_S):
            raise bench.failure(f"no version of the trainer's ranks anything after {_SERVES_S:.0f} s")
    known = len(load.first_of)
    run.beside.append(await _steady(bench, load, users, order, options.rate, options))
    run.swaps = len(load.first_of) - known
    bench.processes.remove(trainer)
    await asyncio.to_thread(trainer.stop)
    run.beside.append(await _steady(bench, load, users, order, options.rate, options))


@contextmanager
def _measured(bench: BenchSystem, load: Load) -> Iterator[LatencyStretch]:
    """What happens within: filled in at the end."""
    cpu_s, broker_s = _on_page(bench, _CPU), _brokers(bench)
    stretch, began = LatencyStretch(first=len(load.sent)), time.perf_counter()
    yield stretch
    stretch.end, stretch.seconds = len(load.sent), time.perf_counter() - began
    now = _on_page(bench, _CPU)
    stretch.cpu_s = None if cpu_s is None or now is None else now - cpu_s
    stretch.broker_s = None if broker_s is None else (_brokers(bench) or 0.0) - broker_s


def _brokers(bench: BenchSystem) -> float | None:
    """Processor seconds that the broker has used."""
    if bench.broker_pid is None or sys.platform != "linux":
        return None
    return processor_seconds(bench.broker_pid)


def _on_page(bench: BenchSystem, name: str) -> float | None:
    """A number that the worker tells Prometheus; some are told on Linux alone."""
    families = text_string_to_metric_families(bench.processes[0].page())
    return next((one.value for family in families for one in family.samples if one.name == name), None)


def _profiler() -> Path:
    """Where py-spy is.

    Raises:
        LiverankError: nowhere.
    """
    found = shutil.which("py-spy", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if found is None:
        raise LiverankError("--profile needs py-spy: pip install py-spy")
    return Path(found)


@asynccontextmanager
async def _profiled(bench: BenchSystem, options: LatencyOptions) -> AsyncIterator[None]:
    """Has py-spy look at the worker's threads while they run Python or what Python called, where that is asked for.

    Raises:
        LiverankError: py-spy may not, or fails.
    """
    if options.profile is None:
        yield
        return
    seconds = round(options.warm_s + options.seconds)
    process = await asyncio.create_subprocess_exec(
        _profiler(), "record", "--pid", str(bench.processes[0].pid), "--output", options.profile, "--threads",
        "--rate", str(_SAMPLES_PER_S), "--duration", str(seconds), "--nonblocking",
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        yield
        async with asyncio.timeout(_PROFILED_S):
            _, said = await process.communicate()
    except TimeoutError:
        raise LiverankError(f"py-spy has written nothing {_PROFILED_S:.0f} s after its time") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise LiverankError(f"py-spy cannot look at the worker: {said.decode(errors='replace').strip()}")


def _figures(load: Load, run: LatencyRun, options: LatencyOptions) -> dict[str, Any]:
    started = load.sent[run.burst.first].at
    seconds = max(at for at in run.covered[run.burst.first :] if at is not None) - started
    found: dict[str, Any] = {
        **_of_stretch(load, run, run.steady),
        "burst": {
            "inputs": run.burst.end - run.burst.first,
            "seconds": round(seconds, 2),
            "inputs_per_s": round((run.burst.end - run.burst.first) / seconds),
            "rankings": sum(arrival.at >= started for arrival in load.arrivals),
            **_costs(run.burst),
        },
        "missing": run.covered.count(None),
        "repeated": repeated(load.arrivals),
        "load_late_p99_ms": load.late_ms(),
    }
    if run.by_rate:
        found["rates"] = {f"{rate:g}": _of_stretch(load, run, stretch) for rate, stretch in run.by_rate.items()}
    if run.beside:
        before, beside, after = run.beside
        without, during = _waits(load, run, before) + _waits(load, run, after), _waits(load, run, beside)
        found["trainer"] = {
            "without": _percentiles(without),
            "with": _percentiles(during),
            "p50_ratio": round(float(np.median(during) / np.median(without)), 3),
            "p99_ratio": round(float(np.percentile(during, 99) / np.percentile(without, 99)), 3),
            "costs": {"without": [_costs(before), _costs(after)], "with": _costs(beside)},
            "swaps": run.swaps,
        }
    return {**found, "options": asdict(options)}


def _of_stretch(load: Load, run: LatencyRun, stretch: LatencyStretch) -> dict[str, Any]:
    return {
        "latency_ms": _percentiles(_waits(load, run, stretch)),
        "rate": round((stretch.end - stretch.first) / stretch.seconds, 1),
        **_costs(stretch),
    }


def _waits(load: Load, run: LatencyRun, stretch: LatencyStretch) -> list[float]:
    """Milliseconds from each input of a stretch to the first ranking that covers it."""
    part = slice(stretch.first, stretch.end)
    pairs = zip(load.sent[part], run.covered[part], strict=True)
    return [1000 * (at - event.at) for event, at in pairs if at is not None]


def _percentiles(waits: list[float]) -> dict[str, float]:
    p50, p90, p99, p999 = np.percentile(waits, [50, 90, 99, 99.9]).round(3).tolist()
    return {"p50": p50, "p90": p90, "p99": p99, "p999": p999, "max": round(max(waits), 3), "n": len(waits)}


def _costs(stretch: LatencyStretch) -> dict[str, int | None]:
    """Microseconds of processor time for each input."""
    inputs = stretch.end - stretch.first
    used = {"worker_cpu_us": stretch.cpu_s, "broker_cpu_us": stretch.broker_s}
    return {name: None if seconds is None else round(1e6 * seconds / inputs) for name, seconds in used.items()}
