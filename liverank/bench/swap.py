"""`liverank bench swap`: does anybody notice that the model changes?

One worker under a steady load of lists and clicks; every few seconds another version, with other weights and item rows,
is announced on `model-updates`. Before and during are interleaved, a quiet stretch and then a swap, again and again:
what else the machine does meanwhile falls on both alike, and a log of rows that grows, or a cache that fills, is in
both. A swap lasts from its announcement, so fetching, checking, loading and warming up are in it, until a second after
the first ranking by the new version (`liverank.measure.swaps` has which event counts where). Latency is by one
clock in one process, from the hand-over to the producer to the arrival of the first ranking whose `applied` covers the
event.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict, dataclass
from random import Random
from typing import Any, NamedTuple

import msgspec
import uvloop
from rich.console import Console

from liverank.bench.load import Load, attended, prepare
from liverank.bench.models import bench_people
from liverank.bench.system import BenchSystem, started_system
from liverank.measure.deliveries import repeated
from liverank.measure.swaps import Swap, Timed, figures, split_by_swap
from liverank.terminal import progress_bars
from online_learning.progress import ProgressReport
from ranker.contracts.errors import LiverankError
from ranker.contracts.records import ModelUpdate

_SERVES_S, _ANSWERS_S = 60.0, 30.0
_SETTLE_S = 1.0  # a swap lasts so long after the first ranking by the new version


@dataclass(frozen=True)
class SwapOptions:
    """What the user chose."""

    broker: str = "kafka"  # an address, or kafka
    swaps: int = 12
    rate: float = 200.0  # inputs a second
    quiet_s: float = 3.0  # before each swap
    users: int = 1000
    candidates: int = 100
    history: int = 50  # events that a user has done by the end
    items: int = 10_000
    warm_s: float = 5.0  # of load before anything is measured


class SwapRun(NamedTuple):
    """What happened: the swaps, and when the ranking came that covers each input sent; None where none does."""

    swaps: list[Swap]
    covered: list[float | None]


def bench_swap(options: SwapOptions, console: Console) -> dict[str, Any]:
    """SwapRun it; what it started is gone when this returns or raises.

    Raises:
        LiverankError: something is missing or went wrong, with the end of the log of the process concerned.
    """
    if options.swaps < 1 or options.rate <= 0 or options.quiet_s <= 0 or not 1 <= options.candidates <= options.items:
        raise LiverankError("swaps and candidates must be at least 1, rate and quiet-s above 0, items >= candidates")
    with started_system(options.broker, ("worker",), options.items, console) as bench:
        with console.status("the versions to swap to"):
            updates = [bench.versions.publish() for _ in range(options.swaps)]
        load = Load(bench)
        run = uvloop.run(attended(bench, load, _perform(bench, load, updates, options)))
    return {**_figures(load, run, options), **bench.report}


async def _perform(bench: BenchSystem, load: Load, updates: list[ModelUpdate], options: SwapOptions) -> SwapRun:
    """Give the users histories and lists, then go through the swaps under load."""
    users, order = bench_people(bench.settings.broker.app, bench.items, options.users, options.candidates), Random(0)
    seconds = options.warm_s + options.swaps * (options.quiet_s + _SETTLE_S + 1)
    await prepare(bench, load, users, max(1, options.history - round(options.rate * seconds / options.users)))
    swaps: list[Swap] = []
    async with load.running(options.rate, lambda now: order.choice(users).next_record(now), order):
        await asyncio.sleep(options.warm_s)
        # Drawn only between a swap and the next quiet stretch: a thread that draws would be noise of our own.
        with progress_bars(bench.console, quiet=True) as show:
            for update in updates:
                show(ProgressReport("swaps", len(swaps), len(updates)))
                swaps.append(await _swap(bench, load, update, options))
    return SwapRun(swaps, await load.covered(_ANSWERS_S))


async def _swap(bench: BenchSystem, load: Load, update: ModelUpdate, options: SwapOptions) -> Swap:
    """A quiet stretch, then a swap.

    Raises:
        LiverankError: the version does not serve in time.
    """
    quiet_from = time.perf_counter()
    await asyncio.sleep(options.quiet_s)
    announced = time.perf_counter()
    bench.announce(update)
    if not await load.until(lambda: update.version in load.first_of, _SERVES_S):
        raise bench.failure(f"{update.version} ranks nothing {_SERVES_S:.0f} s after its announcement")
    await asyncio.sleep(_SETTLE_S)
    return Swap(update.version, quiet_from, announced, load.first_of[update.version], time.perf_counter())


def _figures(load: Load, run: SwapRun, options: SwapOptions) -> dict[str, Any]:
    events = [
        Timed(event.at, at) for event, at in zip(load.sent, run.covered, strict=True)
        if at is not None and event.at >= run.swaps[0].quiet_from
    ]  # fmt: skip
    first, last = run.swaps[0].quiet_from, run.swaps[-1].until
    measured = sum(first <= event.at <= last for event in load.sent)
    return {
        "swaps": len({swap.version for swap in run.swaps} & set(load.first_of)),
        "missing": run.covered.count(None),
        "repeated": repeated(load.arrivals),
        **msgspec.to_builtins(figures(split_by_swap(events, run.swaps), run.swaps)),
        "events": measured,
        "rate": round(measured / (last - first), 1),
        "load_late_p99_ms": load.late_ms(),
        "options": asdict(options),
    }
