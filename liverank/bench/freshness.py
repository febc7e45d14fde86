"""`liverank bench freshness`: how soon is what people do in the weights that rank them?

A worker, a trainer with its default settings, and simulated users at a steady rate. Which ranking is the first by
weights that had learned from an event is not estimated but read from the records (`liverank.measure.freshness`).
Measured are the events of `seconds`; after that the load goes on, unmeasured, until all of them were learned from, or
at most for `_TAIL_S` more: what was not by then is counted as never. So no wait is left out because it was long.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import msgspec
import uvloop
from rich.console import Console

from liverank.bench.load import Load, attended
from liverank.bench.models import bench_people
from liverank.bench.system import BenchSystem, started_system
from liverank.measure.deliveries import repeated
from liverank.measure.freshness import Freshness, percentiles
from liverank.simulate.users import CLICKS_A_LIST, SimulatedUser
from ranker.contracts.clock import now_ms
from ranker.contracts.errors import LiverankError
from ranker.contracts.records import Example, ModelDelta
from ranker.contracts.topics import EXAMPLES, MODEL_DELTAS
from ranker.registry.bundle import read_manifest

_PREPARED_S, _ANSWERS_S = 60.0, 30.0
_TAIL_S = 60.0

_example = msgspec.json.Decoder(Example).decode
_delta = msgspec.json.Decoder(ModelDelta).decode


@dataclass(frozen=True)
class FreshnessOptions:
    """What the user chose."""

    broker: str = "kafka"  # an address, or kafka
    seconds: float = 60.0
    rate: float = 100.0  # inputs a second: a list, then six clicks on it
    users: int = 200
    candidates: int = 40
    items: int = 2000
    warm_s: float = 10.0  # of load, and learning, before anything is measured


class FreshnessRun(NamedTuple):
    """What happened: the measured stretch by both clocks, and when each input's ranking came; None where none did."""

    since: float  # seconds since the epoch
    until: float
    started: float  # by `time.perf_counter`
    ended: float
    tail_s: float
    covered: list[float | None]


class FreshnessFeed:
    """Feeds what is consumed to `liverank.measure.freshness`, and reads the manifests that it asks for."""

    def __init__(self, bench: BenchSystem) -> None:
        self.freshness = Freshness(topic=bench.settings.topics.called(EXAMPLES))
        self.deltas = 0
        self._settings = bench.settings

    def example(self, message: Any) -> None:
        """A record of `examples`. One of an earlier benchmark on the same broker is no event of ours."""
        found = _example(message.value)
        if not found.user_id.startswith(self._settings.broker.app):
            found = msgspec.structs.replace(found, outcome=None)
        self.freshness.example(message.partition, message.offset, found)

    def delta(self, message: Any) -> None:
        """A record of `model-deltas`."""
        found = _delta(message.value)
        if found.model == self._settings.registry.model:
            self.deltas += 1
            self.freshness.delta(found)

    def ranking(self, at: float, model: str, delta: int) -> None:
        """A ranking's weights."""
        self.freshness.ranking(at, model, delta)
        for version in self.freshness.unknown:
            folder = Path(self._settings.registry.address) / self._settings.registry.model / version
            self.freshness.manifest(version, read_manifest(folder).offsets)


def bench_freshness(options: FreshnessOptions, console: Console) -> dict[str, Any]:
    """FreshnessRun it; what it started is gone when this returns or raises.

    Raises:
        LiverankError: something is missing or went wrong, with the end of the log of the process concerned.
    """
    if options.seconds <= 0 or options.rate <= 0 or options.users < 1 or not 2 <= options.candidates <= options.items:
        raise LiverankError("seconds and rate must be above 0, users at least 1, candidates 2 to items")
    with started_system(options.broker, ("worker", "trainer"), options.items, console) as bench:
        load, join = Load(bench), FreshnessFeed(bench)
        load.on_ranking = join.ranking
        handlers = {EXAMPLES: join.example, MODEL_DELTAS: join.delta}
        run = uvloop.run(attended(bench, load, _perform(bench, load, join, options), handlers))
    return {**_figures(load, join, run, options), **bench.report}


async def _perform(bench: BenchSystem, load: Load, join: FreshnessFeed, options: FreshnessOptions) -> FreshnessRun:
    """Lists for all users, then the load: unmeasured at first, measured, and unmeasured until all was learned from."""
    users = bench_people(bench.settings.broker.app, bench.items, options.users, options.candidates)
    await _prepare(bench, load, users)
    order, wait = _in_rounds(users), bench.console.status("")
    with wait:
        async with load.running(options.rate, lambda now: next(order).next_record(now), Random(0)):
            wait.update(f"{options.rate:g} inputs a second, not measured yet")
            await asyncio.sleep(options.warm_s)
            since, started = time.time(), time.perf_counter()
            wait.update(f"{options.rate:g} inputs a second for {options.seconds:g} s")
            await asyncio.sleep(options.seconds)
            until, ended = time.time(), time.perf_counter()
            wait.update("until all of them were learned from")
            await load.until(lambda: not join.freshness.waiting(since, until), _TAIL_S)
            tail_s = time.perf_counter() - ended
        return FreshnessRun(since, until, started, ended, tail_s, await load.covered(_ANSWERS_S))


async def _prepare(bench: BenchSystem, load: Load, users: list[SimulatedUser]) -> None:
    """A list for everyone, and some clicks on it: the users stand at different places of their lists.

    Raises:
        LiverankError: the lists are not ranked in time.
    """
    turns = 1 + CLICKS_A_LIST
    with bench.console.status(f"{len(users)} users and their lists"):
        for turn in range(turns):
            for number, user in enumerate(users):
                if number % turns >= turn:
                    load.send(user.next_record(now_ms()))
            if None in await load.covered(_PREPARED_S):
                raise bench.failure(f"the users' lists are not ranked after {_PREPARED_S:.0f} s")


def _in_rounds(users: list[SimulatedUser]) -> Iterator[SimulatedUser]:
    """Each user once, then each once again: nobody clicks on a list that the worker cannot have seen yet."""
    while True:
        yield from users


def _figures(load: Load, join: FreshnessFeed, run: FreshnessRun, options: FreshnessOptions) -> dict[str, Any]:
    found = join.freshness.report(run.since, run.until)
    waits = [
        1000 * (at - event.at)
        for event, at in zip(load.sent, run.covered, strict=True)
        if at is not None and run.started <= event.at < run.ended
    ]
    measured = sum(run.started <= event.at < run.ended for event in load.sent)
    return {
        **msgspec.to_builtins(found),
        "tail_s": round(run.tail_s, 1),
        "latency_ms": msgspec.to_builtins(percentiles(waits)),
        "missing": run.covered.count(None),
        "repeated": repeated(load.arrivals),
        "versions": len(load.first_of),
        "deltas": join.deltas,
        "inputs": measured,
        "rate": round(measured / (run.ended - run.started), 1),
        "load_late_p99_ms": load.late_ms(),
        "options": asdict(options),
    }
